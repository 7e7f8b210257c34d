from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridged import Namespace


@pytest.fixture
def alone() -> Iterator[Namespace]:
    """Be in a network namespace of its own, in which only ``lo`` is, up."""
    with Namespace() as namespace:
        yield namespace
