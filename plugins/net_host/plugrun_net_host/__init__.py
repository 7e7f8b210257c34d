"""The net host driver of plugrun."""
