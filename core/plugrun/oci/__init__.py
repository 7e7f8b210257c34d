"""The OCI side: runtime specification, runtime and monitor processes."""
