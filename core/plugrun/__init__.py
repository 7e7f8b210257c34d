"""plugrun: a daemonless container engine assembled from installed drivers."""

__version__ = "0.1.0"
VERSION_LINE = f"plugrun version {__version__}"
