"""The storage btrfs driver of plugrun."""
