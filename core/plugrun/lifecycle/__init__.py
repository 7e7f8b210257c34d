"""A container's life: create, start, end, remove, and what to do after a crash in between."""
