"""Layers that are fetched side by side, and an interrupt before all of them are begun."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from plugrun.errors import Unavailable
from plugrun.images.image import Layer
from plugrun.registry.fetch import Fetch

PATIENCE = 30


class Work:
    """A load into a store that has nothing yet."""

    def pin(self, digest, size):
        return False


class Silent:
    """A registry that says nothing until the connections to it are broken off."""

    def __init__(self):
        self.asked = threading.Event()
        self.broken_off = threading.Event()

    def open_blob(self, digest, size, *, offset):
        self.asked.set()
        self.broken_off.wait(PATIENCE)
        raise Unavailable("broken off")


def test_an_interrupt_before_all_layers_are_begun_waits_for_none(tmp_path, monkeypatch):
    registry, submit = Silent(), ThreadPoolExecutor.submit
    layers = [Layer(f"sha256:{number:064}", 100, "", f"sha256:{number:064}") for number in range(2)]
    fetch = Fetch(registry, layers, Work(), root=tmp_path, known=tuple, what="an image", abort=registry.broken_off.set)

    def interrupted(*arguments):
        submit(*arguments)
        assert registry.asked.wait(PATIENCE)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt), fetch:
        pass
    assert registry.broken_off.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
