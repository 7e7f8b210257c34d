"""plugrun: a daemonless container engine assembled from installed drivers."""

__version__ = "0.1.0"
