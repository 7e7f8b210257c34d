from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridged import Namespace, ip


@pytest.fixture
def alone() -> Iterator[Namespace]:
    """Be in a network namespace of its own, in which only ``lo`` is, up."""
    with Namespace() as namespace:
        yield namespace


@pytest.fixture(scope="session")
def place_for_namespaces() -> None:
    """Have ip(8) mount the directory of named namespaces, which it does once and leaves there."""
    ip("netns", "add", "first")
    ip("netns", "del", "first")
