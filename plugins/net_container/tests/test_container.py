from __future__ import annotations

import pytest

from plugrun.api import Existing, InvalidArgument, Join, NetworkRequest
from plugrun.manager import load
from plugrun_net_container.driver import SharingDriver


def test_claims_container_and_a_name() -> None:
    plugins = load()
    assert plugins.network["container"].dist == "plugrun-net-container"
    assert plugins.parse_network("container:web") == NetworkRequest("container", "web")
    assert plugins.parse_network("container:a:b") == NetworkRequest("container", "a:b")
    for other in ("containers:web", "containerweb", "Container:web", "web", "ns"):
        assert plugins.parse_network(other) == NetworkRequest(other)


def test_claims_the_path_of_a_namespace() -> None:
    request = load().parse_network("ns:/run/netns/lab")
    assert request.driver == "container"
    assert SharingDriver().namespace(request.target) == Existing("/run/netns/lab")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("container:", "'container:' names no container"),
        ("ns:", "'ns:' names no abs"),
        ("ns:lab", "'ns:lab' names no abs"),
    ],
)
def test_what_is_claimed_has_to_name_something(value: str, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        load().parse_network(value)


def test_plans_to_join() -> None:
    assert SharingDriver().namespace("web") == Join("web")
    for nothing in (None, ""):
        with pytest.raises(InvalidArgument, match="needs the name of a container"):
            SharingDriver().namespace(nothing)
