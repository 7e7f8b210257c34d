from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from plugrun import namespaces
from plugrun.api import Attachment, Drift, NetResult, New
from plugrun.manager import load


@pytest.mark.root
def test_alone_with_loopback(tmp_path: Path) -> None:
    plugins = load()
    driver = plugins.open_network(plugins.select_network("none", tmp_path), tmp_path, {})
    assert driver.namespace(None) == New()
    pin = tmp_path / "netns"
    namespaces.create(pin)
    try:
        at = Attachment("0" * 64, "web", str(pin))
        assert driver.setup(at) == NetResult()
        command = ["nsenter", f"--net={pin}", "ip", "-brief", "link"]
        links = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        assert [line.split()[0] for line in links] == ["lo"]
        driver.check(at, NetResult())
    finally:
        namespaces.delete(pin)
    with pytest.raises(Drift, match="expected a network namespace, found none at"):
        driver.check(at, NetResult())
