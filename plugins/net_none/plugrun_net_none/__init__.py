"""The net none driver of plugrun."""
