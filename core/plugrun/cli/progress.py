"""Progress on stderr while layers are unpacked: a live line for a person, nothing for a pipe."""

from __future__ import annotations
