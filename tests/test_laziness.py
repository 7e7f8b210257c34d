"""Which modules a command imports: each pays only for what it uses. Deterministic, unlike a timed test."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"typer", "click", "pydantic", "pyroute2", "rich", "ssl", "http", "urllib3", "asyncio", "logging", "tempfile"}
HEAVY |= {"concurrent", "subprocess", "platform", "secrets", "hashlib", "random", "email"}
PROGRAM = """
import os, sys
from plugrun.__main__ import main
leave = os._exit
def show(code):
    print("\\n" + " ".join(sorted(sys.modules)), flush=True)
    leave(code)
os._exit = show
main()
show(0)
"""


def modules(*arguments):
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.splitlines()[-1].split())
    return names | {name.partition(".")[0] for name in names}


def roots(plugrun):
    return plugrun.argv()[1:]


def test_the_version_needs_neither_parser_nor_plugins():
    found = modules("--version")
    assert not found & {*HEAVY, "pluggy", "sqlite3", "json", "dataclasses", "inspect"}


@pytest.mark.root
def test_ps_needs_the_database_but_no_plugins(plugrun):
    found = modules(*roots(plugrun), "ps")
    assert "sqlite3" in found
    assert not found & {*HEAVY, "pluggy", "plugrun.manager", "plugrun.oci", "plugrun.images"}


@pytest.mark.root
def test_run_on_the_host_network_imports_only_the_drivers_it_uses(plugrun, busybox):
    plugrun("run", "--rm", "--net", "host", busybox, "true").ok()  # unpacks the image
    found = modules(*roots(plugrun), "run", "--rm", "--net", "host", busybox, "true")
    assert not found & HEAVY
    assert {"plugrun_storage_overlay.driver", "plugrun_net_host.driver"} <= found
    assert not {"plugrun_net_bridge.driver", "plugrun_net_none.driver", "plugrun_storage_btrfs.driver"} & found
    assert not {name for name in found if name.startswith(("plugrun.cli.network_parse", "plugrun.cli.port"))}
    assert not found & {"plugrun.cli.addresses", "plugrun.cli.network_details"}
    assert not found & {"plugrun.volumes", "plugrun.state.volumes", "plugrun.lifecycle.mount_plan", "plugrun.tree_copy"}
    assert not {name for name in found if name.startswith(("plugrun.pools", "plugrun.copying"))}
    assert not found & {"plugrun_storage_overlay.changes", "plugrun_storage_overlay.clone", "plugrun.lifecycle.diff"}
    assert not found & {"plugrun.images.unpack", "plugrun.images.archive", "backports.zstd", "plugrun.testing"}
