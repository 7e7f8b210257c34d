"""The conformance kit against deliberately broken drivers: which cases of it fail, by name."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from plugrun.api import Mount
from plugrun.testing import mounted

FEATURES = frozenset({"rename-lower-dir"})


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """Have a state directory in memory: quick, and gone with whatever is in it, mounts too, at the end."""
    with mounted([Mount("tmpfs", "tmpfs")]) as memory:
        state = memory / "state"
        state.mkdir(mode=0o700)
        yield state


class Broken(NamedTuple):
    """A driver with one fault.

    :param cases: the names of exactly those cases, of the ones it is run against, that fail.
    """

    driver: type
    cases: frozenset[str]

    def __str__(self) -> str:
        return self.driver.__name__


class Drivers:
    """The broken drivers of one module, each run against the groups of cases that concern it.

    :param module: ``globals()`` of the module, where a run of pytest on it finds the kit's classes.
    """

    def __init__(self, module: dict[str, Any]) -> None:
        self._module = module
        self.all: list[Broken] = []

    def caught_by(
        self, *cases: str, groups: tuple[type, ...], only: str = "", features: frozenset[str] = FEATURES
    ) -> Callable[[type], type]:
        """Declare, as a class decorator, which cases catch a driver.

        :param groups: of the kit; all their cases are run, or those alone in whose names the pattern ``only`` is found.
        """

        def declare(driver: type) -> type:
            name = f"Test{driver.__name__}"
            self._module[name] = kit(name, self._module["__name__"], driver, groups, only, features)
            self.all.append(Broken(driver, frozenset(cases)))
            return driver

        return declare


def kit(name: str, module: str, driver: type, groups: tuple[type, ...], only: str, features: frozenset[str]) -> type:
    """Return a class that pytest runs."""
    inherited = {case for group in groups for case in dir(group) if case.startswith("test_")}

    def open_driver(_: object, state: Path) -> Any:
        return driver(state)

    @pytest.fixture
    def state(_: object) -> Iterator[Path]:
        with in_memory() as place:
            yield place

    left_out: dict[str, Any] = dict.fromkeys(case for case in inherited if not re.search(only, case))
    own = {"__module__": module, "open": open_driver, "state": state, "features": features}
    return type(name, groups, {**own, **left_out})


def failures(modules: list[Path], place: Path) -> dict[str, set[str]]:
    """Run pytest on modules of broken drivers; return by driver which cases failed, without their parameters.

    What one leaves behind in this host is no case's failure here, as two of them run at a time.

    :param place: an existing directory; its file system does not matter, the drivers work in memory.
    """
    report = place / "report.xml"
    with mounted([Mount("tmpfs", "tmpfs")]) as memory:
        options = ["-q", "--tb=no", "--noconftest", "-p", "no:cacheprovider", "-n", "2"]
        places = [f"--junitxml={report}", f"--basetemp={memory}/t"]
        command = [sys.executable, "-m", "pytest", *options, *places, *map(str, modules)]
        env = {**os.environ, "PLUGRUN_LEAK_PATIENCE": "1.5"}  # what they leave behind never goes
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, f"{done.stdout}\n{done.stderr}"
    found: dict[str, set[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failed = found.setdefault(case.attrib["classname"].rpartition(".Test")[2], set())
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(case.attrib["name"].partition("[")[0])
    return found
