from __future__ import annotations

from pathlib import Path

import pytest

from plugrun.api import Unavailable
from plugrun.manager import load


def test_is_declared_and_says_what_to_use_instead(tmp_path: Path) -> None:
    plugins = load()
    declared = plugins.network["bridge"]
    assert declared.dist == "plugrun-net-bridge"
    reason = str(declared.reason(tmp_path))
    assert "plugrun 0.1.0 only announces the bridge driver" in reason
    assert "use --net" in reason
    with pytest.raises(Unavailable, match="only announces the bridge driver"):
        plugins.select_network("bridge", tmp_path)


def test_cannot_be_opened_past_the_probe(tmp_path: Path) -> None:
    plugins = load()
    with pytest.raises(Unavailable, match="only announces the bridge driver") as refused:
        plugins.open_network(plugins.network["bridge"], tmp_path, {})
    assert "use --net" in str(refused.value.hint)
