"""Registries: the client's side of the OCI distribution specification."""
