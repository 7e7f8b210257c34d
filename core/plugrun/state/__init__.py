"""What the engine remembers: SQLite, one file."""
