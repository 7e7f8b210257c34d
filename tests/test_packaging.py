"""The workspace: what must agree between the root, the core and the plugin dists, and that pip installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PLUGINS = sorted(path.parent for path in CHECKOUT.glob("plugins/*/pyproject.toml"))
CORE_FILES = sorted((CHECKOUT / "core" / "plugrun").rglob("*.py"))
LONGEST = 300  # lines; a longer file holds more than one idea
# What drivers are written against is one page to read, and most of that page is prose.
EXEMPT = {"api.py"}


def read(directory: Path) -> dict[str, Any]:
    return tomllib.loads((directory / "pyproject.toml").read_text())


ROOT = read(CHECKOUT)
CORE = read(CHECKOUT / "core")


def dist_name(plugin: Path) -> str:
    return "plugrun-" + plugin.name.replace("_", "-")


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_plugin_dist_is_named_after_its_folder(plugin):
    project = read(plugin)["project"]
    assert project["name"] == dist_name(plugin)
    assert project["entry-points"] == {"plugrun": {plugin.name: f"plugrun_{plugin.name}"}}
    assert (plugin / f"plugrun_{plugin.name}" / "py.typed").exists()
    assert (plugin / "README.md").exists()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_plugin_is_among_the_batteries(plugin):
    """Each member is listed in three places of the root, which nothing else compares."""
    version = ROOT["project"]["version"]
    assert f"{dist_name(plugin)}=={version}" in ROOT["project"]["dependencies"]
    assert ROOT["tool"]["uv"]["sources"][dist_name(plugin)] == {"workspace": True}
    assert f"plugins/{plugin.name}" in ROOT["tool"]["mypy"]["mypy_path"]


def test_root_lists_nothing_that_is_not_there():
    expected = {"plugrun-core", *map(dist_name, PLUGINS)}
    assert {line.partition("==")[0] for line in ROOT["project"]["dependencies"]} == expected
    assert set(ROOT["tool"]["uv"]["sources"]) == expected


def test_one_version_everywhere():
    version = ROOT["project"]["version"]
    source = (CHECKOUT / "core" / "plugrun" / "__init__.py").read_text()
    assert CORE["project"]["version"] == version
    assert re.search(r'^__version__\b.*= "(.+)"', source, re.MULTILINE)[1] == version
    for plugin in PLUGINS:
        project = read(plugin)["project"]
        assert project["version"] == version, plugin.name
        assert f"plugrun-core=={version}" in project["dependencies"], plugin.name


def test_core_knows_no_plugin():
    names = "|".join(plugin.name for plugin in PLUGINS)
    found = [str(path) for path in CORE_FILES if re.search(rf"\bplugrun_({names})\b", path.read_text())]
    assert found == []


def test_core_never_imports_the_contract_kit():
    """The kit needs pytest, which users do not have."""
    kit = CHECKOUT / "core" / "plugrun" / "testing"
    pattern = re.compile(r"^\s*(from|import) plugrun\.testing", re.MULTILINE)
    assert [str(p) for p in CORE_FILES if kit not in p.parents and pattern.search(p.read_text())] == []


@pytest.mark.parametrize(
    "path",
    [p for p in CORE_FILES if p.name not in EXEMPT],
    ids=lambda path: str(path.relative_to(CHECKOUT / "core" / "plugrun")),
)
def test_no_file_of_the_core_is_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST


INSTALLED = """
from plugrun.manager import load
plugins = load()
print(*sorted(plugins.storage), *sorted(plugins.network), *(one.name + "!" for one in plugins.rejected))
"""


@pytest.mark.slow
def test_pip_installs_it_into_a_plain_venv_and_removes_one_driver(tmp_path):
    venv = plain_venv(tmp_path)
    members = ["./core", *(f"./{plugin.relative_to(CHECKOUT)}" for plugin in PLUGINS), "."]
    pip(venv, "install", "--no-index", "--no-build-isolation", *members)
    assert run(venv, "plugrun", "--version") == f"plugrun version {ROOT['project']['version']}"
    everything = run(venv, "python", "-c", INSTALLED)
    assert everything == "btrfs overlay bridge container host none"

    pip(venv, "uninstall", "--yes", "plugrun-net-none")
    assert run(venv, "python", "-c", INSTALLED) == everything.removesuffix(" none")


def plain_venv(directory: Path) -> Path:
    """Make a venv that has what the project depends on, so that the test needs no index, and nothing of ours."""
    venv = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    (target,) = venv.glob("lib/python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "plugrun" not in entry.name and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    return venv


def pip(venv: Path, *arguments: str) -> None:
    run(venv, "python", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)


def run(venv: Path, program: str, *arguments: str) -> str:
    command = [venv / "bin" / program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
