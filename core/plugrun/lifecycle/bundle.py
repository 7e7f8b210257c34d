"""The OCI bundle of one container: from its record and its mounted root file system to a runtime specification."""

from __future__ import annotations
