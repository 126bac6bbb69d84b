"""The course of a study: timeline and response."""
