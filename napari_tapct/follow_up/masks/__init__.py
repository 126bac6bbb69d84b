"""Lesion masks: grown, painted, corrected, and their layers."""
