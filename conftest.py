"""Fixtures for the tests of the core and of every plugin."""

from __future__ import annotations

pytest_plugins = (
    "fixtures.host",
    "fixtures.bridge",
    "fixtures.engine",
    "fixtures.disk",
    "fixtures.storage",
    "fixtures.tls",
    "fixtures.tools",
    "fixtures.registry",
    "fixtures.stub",
    "fixtures.network",
)
