"""Which capabilities a container gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugrun.errors import InvalidArgument, Unavailable
from plugrun.oci import capabilities

HEADER = Path("/usr/include/linux/capability.h")


def mask(names):
    return sum(1 << capabilities.NAMES.index(name) for name in names)


@pytest.fixture
def everything(monkeypatch):
    """An engine that may grant every capability."""
    monkeypatch.setattr(capabilities, "held", lambda: frozenset(capabilities.NAMES))


@pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's headers: apt-get install linux-libc-dev")
def test_numbers_are_the_kernels():
    found = dict(re.findall(r"^#define (CAP_[A-Z_]+)\s+(\d+)$", HEADER.read_text(), re.MULTILINE))
    found.pop("CAP_LAST_CAP", None)
    ours = {name: str(number) for number, name in enumerate(capabilities.NAMES)}
    assert found.items() <= ours.items()
    assert len(found) >= 41


def test_the_default_is_podmans(everything):
    assert mask(capabilities.resolve([], [])) == 0x800405FB
    assert mask(capabilities.DEFAULT) == 0x800405FB


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        (["NET_ADMIN"], [], 0x800405FB | 1 << 12),
        (["cap_net_admin"], [], 0x800405FB | 1 << 12),
        ([], ["CHOWN"], 0x800405FA),
        ([], ["ALL"], 0),
        (["NET_RAW"], ["all"], 1 << 13),
        (["ALL"], [], (1 << 41) - 1),
        (["ALL"], ["SYS_ADMIN"], (1 << 41) - 1 - (1 << 21)),
        (["ALL", "SYS_ADMIN"], ["SYS_ADMIN"], (1 << 41) - 1 - (1 << 21)),
        (["ALL"], ["ALL"], (1 << 41) - 1),
        (["NET_ADMIN"], ["NET_ADMIN", "CHOWN"], 0x800405FA | 1 << 12),
    ],
)
def test_add_and_drop(everything, add, drop, expected):
    assert mask(capabilities.resolve(add, drop)) == expected


def test_privileged_is_all_of_them(everything):
    assert mask(capabilities.resolve([], [], privileged=True)) == (1 << 41) - 1


@pytest.mark.parametrize("name", ["NET_ADMN", "CAP_NET_ADMN", "", "CAP_", "21", "SYS ADMIN", "cap_cap_chown"])
@pytest.mark.parametrize("add", [True, False])
def test_unknown_names_are_errors(name, add):
    with pytest.raises(InvalidArgument, match=re.escape(repr(name))) as caught:
        capabilities.resolve([name] if add else [], [] if add else [name])
    if "ADMN" in name:
        assert "NET_ADMIN" in str(caught.value.hint)


def test_what_the_engine_lacks_is_not_granted(monkeypatch):
    monkeypatch.setattr(capabilities, "held", lambda: frozenset({"CAP_CHOWN", "CAP_KILL"}))
    assert set(capabilities.resolve([], [])) == {"CAP_CHOWN", "CAP_KILL"}
    assert set(capabilities.resolve([], [], privileged=True)) == {"CAP_CHOWN", "CAP_KILL"}
    assert set(capabilities.resolve(["ALL"], [])) == {"CAP_CHOWN", "CAP_KILL"}


def test_what_the_engine_lacks_cannot_be_asked_for(monkeypatch):
    monkeypatch.setattr(capabilities, "held", lambda: frozenset({"CAP_CHOWN", "CAP_KILL"}))
    with pytest.raises(Unavailable, match="CAP_NET_ADMIN, CAP_SYS_RESOURCE"):
        capabilities.resolve(["sys_resource", "NET_ADMIN", "KILL", "ALL"], [])
    assert capabilities.resolve(["KILL"], ["ALL", "SYS_RESOURCE"]) == ("CAP_KILL",)


def test_held_is_the_bounding_set():
    status = Path("/proc/self/status").read_text()
    bounding = int(status.partition("CapBnd:")[2].split()[0], 16)
    assert mask(capabilities.held()) == bounding & ((1 << 41) - 1)
