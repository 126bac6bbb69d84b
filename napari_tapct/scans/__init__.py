"""The Scans widget: opening CTs, a patient's scans in order of time, window and level."""
