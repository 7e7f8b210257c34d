"""The net container driver of plugrun."""
