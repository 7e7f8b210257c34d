"""The net bridge driver of plugrun."""
