"""A third party's drivers join the matrix by being installed."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from fixtures.engine import CHECKOUT, PROGRAM
from plugrun.manager import load
from sites import install

pytestmark = pytest.mark.root

DRIVERS = Path(__file__).with_name("acme") / "acme_drivers.py"

LOST = """
from acme_drivers import Pair, run

class Lost(Pair):
    def setup(self, at):
        result = super().setup(at)
        run("nsenter", f"--net={at.netns}", "ip", "route", "delete", "default")
        return result

@hookimpl
def plugrun_network_drivers():
    return [DriverSpec("acme-lost", lambda state, options: Lost(), lambda state: None, priority=-9)]
"""


@pytest.fixture
def environment(tmp_path):
    """A Python environment that has all that this one has, and is not it."""
    place = tmp_path / "environment"
    venv.create(place, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
    (site / "rest.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    program = place / "bin" / PROGRAM.name
    program.write_text(re.sub(r"\A#!.*", f"#!{place}/bin/python", PROGRAM.read_text()))
    program.chmod(0o755)
    return place, site


def matrix(place, expression):
    """Run the tests of the matrix in an environment; return what pytest wrote."""
    command = [place / "bin" / "python", "-m", "pytest", "-p", "no:cacheprovider", "-v", "-k", expression]
    base = place.parent / "inner"
    command += [f"--basetemp={base}", CHECKOUT / "tests" / "matrix" / "test_matrix.py"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_driver_that_is_installed_joins_the_matrix(environment):
    place, site = environment
    assert "acme-pair" not in load().network
    install(site, "acme-drivers", {"acme": "acme_drivers"}, None, group="plugrun")
    (site / "acme_drivers.py").write_text(DRIVERS.read_text())
    install(site, "acme-lost", {"lost": "acme_lost"}, LOST, group="plugrun")
    output = matrix(place, "acme-copies-acme or acme-copies-host")
    for cell in ("acme-copies-acme-pair", "acme-copies-host"):
        assert re.search(rf"test_a_story\[{cell}\] PASSED", output), output
    assert "test_a_story[acme-copies-acme-lost] FAILED" in output, "the control: a driver that breaks its promise"
    assert "1 failed, 2 passed" in output
