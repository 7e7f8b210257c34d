"""Digests become paths, so nothing but a digest may pass."""

from __future__ import annotations

import pytest

from plugrun.errors import InvalidArgument
from plugrun.images import digest

GOOD = ["sha256:" + "0123456789abcdef" * 4, "sha512:" + "0123456789abcdef" * 8]


@pytest.mark.parametrize("text", GOOD)
def test_digests_pass(text):
    assert digest.check(text) == text
    assert digest.is_digest(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:../../etc/passwd",
        "sha256:" + "../" * 21 + "x",
        GOOD[0].upper(),
        GOOD[0][:-1] + "G",
        GOOD[0][:-1],
        GOOD[0] + "0",
        GOOD[0] + "\n",
        " " + GOOD[0],
        "sha512:" + "0" * 64,
        "md5:" + "0" * 32,
        "0" * 64,
        None,
        7,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidArgument, match="is not sha256: or sha512:"):
        digest.check(text)


def test_the_digest_of_nothing_is_the_known_one():
    assert digest.of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
