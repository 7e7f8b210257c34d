from __future__ import annotations

from pathlib import Path

import pytest

from plugrun.api import Unavailable
from plugrun.manager import load


def test_is_declared_and_says_what_to_use_instead(tmp_path: Path) -> None:
    plugins = load()
    declared = plugins.storage["btrfs"]
    assert declared.dist == "plugrun-storage-btrfs"
    reason = str(declared.reason(tmp_path))
    assert "plugrun 0.1.0 only announces the btrfs driver" in reason
    assert "use --storage" in reason
    with pytest.raises(Unavailable, match="only announces the btrfs driver"):
        plugins.select_storage("btrfs", tmp_path)


def test_cannot_be_opened_past_the_probe(tmp_path: Path) -> None:
    plugins = load()
    with pytest.raises(Unavailable, match="only announces the btrfs driver") as refused:
        plugins.open_storage(plugins.storage["btrfs"], tmp_path, {})
    assert "use --storage" in str(refused.value.hint)
