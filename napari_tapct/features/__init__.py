"""The Features widget: which encoder, embedding as a job, features as colours and as similarity."""
