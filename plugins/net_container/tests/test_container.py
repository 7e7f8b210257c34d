from __future__ import annotations

from pathlib import Path

import pytest

from plugrun.api import InvalidArgument, NetworkRequest, Unavailable
from plugrun.manager import load


def test_is_declared_and_says_what_to_use_instead(tmp_path: Path) -> None:
    plugins = load()
    declared = plugins.network["container"]
    assert declared.dist == "plugrun-net-container"
    reason = str(declared.reason(tmp_path))
    assert "plugrun 0.1.0 only announces the container driver" in reason
    assert "use --net" in reason
    with pytest.raises(Unavailable, match="only announces the container driver"):
        plugins.select_network("container", tmp_path)


def test_cannot_be_opened_past_the_probe(tmp_path: Path) -> None:
    plugins = load()
    with pytest.raises(Unavailable, match="only announces the container driver") as refused:
        plugins.open_network(plugins.network["container"], tmp_path, {})
    assert "use --net" in str(refused.value.hint)


def test_claims_container_and_a_name() -> None:
    plugins = load()
    assert plugins.parse_network("container:web") == NetworkRequest("container", "web")
    assert plugins.parse_network("container:a:b") == NetworkRequest("container", "a:b")
    for other in ("containers:web", "containerweb", "Container:web", "web"):
        assert plugins.parse_network(other) == NetworkRequest(other)


def test_a_name_is_needed() -> None:
    with pytest.raises(InvalidArgument, match="'container:' names no container"):
        load().parse_network("container:")
