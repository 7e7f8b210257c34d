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

DEAF = """
from acme_drivers import Pair, run

class Deaf(Pair):
    def setup(self, at):
        result = super().setup(at)
        run("ip", "address", "flush", "dev", self.device(at.container_id))
        return result

@hookimpl
def plugrun_network_drivers():
    return [DriverSpec("acme-deaf", lambda state, options: Deaf(), lambda state: None, priority=-9)]
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
    install(site, "acme-deaf", {"deaf": "acme_deaf"}, DEAF, group="plugrun")
    output = matrix(place, "overlay-acme-pair or acme-copies-none or acme-copies-acme")
    for cell in ("overlay-acme-pair", "acme-copies-none", "acme-copies-acme-pair"):
        assert re.search(rf"test_a_story\[{cell}\] PASSED", output), output
    assert "test_a_story[acme-copies-acme-deaf] FAILED" in output, "the control: a driver that breaks its promise"
    assert "1 failed, 3 passed" in output
