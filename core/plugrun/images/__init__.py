"""Images: references, the content store, archives and unpacking."""
