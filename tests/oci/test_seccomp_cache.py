"""Kept system call filters serve for the rules they were made from, and only whole."""

from __future__ import annotations

import base64

import pytest

from plugrun.oci import seccomp, seccomp_cache

COMPILED = bytes(range(256)) * 20


def spec(*capabilities):
    return {"linux": {"seccomp": seccomp.render("x86_64", capabilities)}}


def annotation(filters, *capabilities):
    """Return the filter that a container with these capabilities gets, ``None`` if it has to be compiled."""
    found = spec(*capabilities)
    wanted = seccomp_cache.use(found, filters)
    data = found.get("annotations", {}).get(seccomp_cache.ANNOTATION)
    assert (data is None) == (wanted is not None)
    return data and base64.b64decode(data, validate=True)


@pytest.fixture
def filters(tmp_path):
    """A directory with the filter of a container without capabilities."""
    compiled = tmp_path / "seccomp.bpf"
    compiled.write_bytes(COMPILED)
    seccomp_cache.keep(seccomp_cache.use(spec(), tmp_path / "filters"), compiled)
    return tmp_path / "filters"


def test_what_is_kept_is_used(filters):
    assert annotation(filters) == COMPILED
    assert filters.stat().st_mode & 0o777 == 0o700


def test_rules_stay_in_the_specification(filters):
    found = spec()
    seccomp_cache.use(found, filters)
    assert found["linux"] == spec()["linux"]


def test_other_rules_have_to_be_compiled(filters):
    assert annotation(filters, "CAP_SYS_ADMIN") is None


def test_equal_checksums_are_not_equal_rules(filters, monkeypatch):
    monkeypatch.setattr(seccomp_cache.binascii, "crc32", lambda *_: int(next(filters.iterdir()).name, 16))
    assert annotation(filters, "CAP_SYS_ADMIN") is None


@pytest.mark.parametrize("damage", ["cut", "zeros", "flip", "empty"])
def test_a_damaged_one_is_not_used(filters, damage):
    (path,) = filters.iterdir()
    content = path.read_bytes()
    middle = len(content) - 1000
    flipped = content[:middle] + (b"B" if content[middle : middle + 1] == b"A" else b"A") + content[middle + 1 :]
    path.write_bytes(
        {"cut": content[:middle], "zeros": content[:middle] + bytes(1000), "flip": flipped, "empty": b""}[damage]
    )
    assert annotation(filters) is None


def test_no_filter_needs_none(filters):
    assert seccomp_cache.use({"linux": {}}, filters) is None


def test_a_runtime_that_left_none_is_fine(tmp_path):
    seccomp_cache.keep(seccomp_cache.use(spec(), tmp_path / "filters"), tmp_path / "nothing")
    assert annotation(tmp_path / "filters") is None
    assert not any((tmp_path / "filters").iterdir())


def test_their_number_is_bounded(filters, tmp_path):
    for number in range(seccomp_cache._MOST):
        (filters / str(number)).touch()
    compiled = tmp_path / "seccomp.bpf"
    seccomp_cache.keep(seccomp_cache.use(spec("CAP_BPF"), filters), compiled)
    assert annotation(filters, "CAP_BPF") is None
