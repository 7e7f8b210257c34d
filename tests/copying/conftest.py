"""A copy from one directory to another, without a container."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing

import pytest

from plugrun.copying.ends import End
from plugrun.copying.parents import Parents
from plugrun.copying.place import Placer
from plugrun.copying.policy import Policy
from plugrun.copying.walk import Walk
from plugrun.rootfd import RootDir

KEEP = Policy(owner=None, rights=True, devices=True, existing=True)


class Copying:
    """``copy(source, target, name)``; ``meanwhile`` is called after each item."""

    def __init__(self):
        self.walk = self.placer = None
        self.bytes = 0

    def __call__(self, source, target, name=b"", policy=KEEP, meanwhile=lambda item: None):
        with ExitStack() as opened:
            root = opened.enter_context(RootDir.at("/"))
            end = End(root, inside=True)
            start, base = (os.open(path, os.O_PATH | os.O_NOFOLLOW) for path in (source, target))
            opened.callback(os.close, start)
            opened.callback(os.close, base)
            self.walk = Walk(start, end)
            self.placer = Placer(base, name, Parents(base, end), policy, self._count)
            opened.callback(self.placer.close)
            for item in opened.enter_context(closing(self.walk.items())):
                made = self.placer.put(item)
                if made is not None and self.walk.never is None:
                    self.walk.never = made
                meanwhile(item)
        return self

    def _count(self, count):
        self.bytes += count


@pytest.fixture
def copy():
    before = len(os.listdir("/proc/self/fd"))
    yield Copying()
    assert len(os.listdir("/proc/self/fd")) == before  # no descriptor is left


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "target"
    path.mkdir()
    return path
