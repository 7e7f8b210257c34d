"""The storage overlay driver of plugrun."""
