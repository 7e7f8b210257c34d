"""Entries of docker's config.json."""

from __future__ import annotations

import base64
from typing import Any


def entry(username: str, password: str, **more: Any) -> dict[str, Any]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode(), **more}
