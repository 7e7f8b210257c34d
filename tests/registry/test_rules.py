"""registries.conf: mistakes name the file and the key."""

from __future__ import annotations

import os

import pytest

from plugrun.errors import InvalidArgument, Unavailable
from plugrun.images import reference
from plugrun.registry import config

pytestmark = pytest.mark.usefixtures("no_registries_conf")

DIGEST = "sha256:" + "0a" * 32


def test_what_means_nothing_here_is_passed_over(load):
    loaded = load(
        'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "enforcing"\ncredential-helpers = ["x"]\n'
        'additional-layer-store-auth-helper = "y"\n[aliases]\n"a" = "docker.io/library/a"'
    )
    assert loaded.endpoints(reference.parse("a"))[0].repository == "library/a"


REGISTRY = '[[registry]]\nlocation = "a.com"\n'
MIRROR = '[[registry.mirror]]\nlocation = "m.net"\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "is not valid TOML"),
        ("a = " + "[" * 10_000, "is not valid TOML"),
        ('[registries.search]\nregistries = ["docker.io"]', "version 1"),
        ("blocked = true", "unknown key 'blocked'"),
        (REGISTRY + "blokced = true", r"\[\[registry\]\] 1: unknown key 'blokced'"),
        (REGISTRY + MIRROR + "blocked = true", r"\[\[mirror\]\] 1: unknown key 'blocked'"),
        (REGISTRY + 'blocked = "true"', "blocked is 'true', not true or false"),
        (REGISTRY + "insecure = 1", "insecure is 1, not true or false"),
        ("[[registry]]\nlocation = 5", "location is 5, not text"),
        ("[[registry]]\nblocked = true", "neither prefix nor location"),
        ("[registry]\nblocked = true", "registry is .* not"),
        ("registry = [1]", "no table"),
        (REGISTRY + "mirror = 1", "mirror is 1, not"),
        (REGISTRY + REGISTRY, "the prefix 'a.com' appears twice"),
        (REGISTRY + "[[registry.mirror]]", "has no location"),
        (REGISTRY + MIRROR + 'pull-from-mirror = "never"', "pull-from-mirror is 'never'"),
        (REGISTRY + 'pull-from-mirror = "all"', "unknown key 'pull-from-mirror'"),
        (REGISTRY + "mirror-by-digest-only = true\n" + MIRROR + 'pull-from-mirror = "all"', "exclude each other"),
        *(
            (f'[[registry]]\n{key} = "{place}"', f"{key} .* is not HOST")
            for key in ("prefix", "location")
            for place in ("https://a.com", "a.com/x:1", f"a.com/x@{DIGEST}", "nodots", "nodots/x", "a.com/X", "a b.com")
        ),
        *(
            (f'[[registry]]\nprefix = "{prefix}"', r"is not \*\.DOMAIN")
            for prefix in ("*.a.com/x", "*.a.com:5000", "*.*.com", "*.")
        ),
        ('[[registry]]\nprefix = "a.*.com"', "is not HOST"),
    ],
)
def test_mistakes_name_the_file_and_the_key(load, tmp_path, text, reason):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        load(text)
    assert str(tmp_path / "registries.conf") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_in_a_drop_in_names_that_file(load):
    with pytest.raises(InvalidArgument, match=r"registries\.conf\.d/10\.conf: unknown key 'x'"):
        load("", **{"10": "x = 1"})


def test_what_cannot_be_read_says_so(tmp_path):
    (tmp_path / "registries.conf").mkdir()
    with pytest.raises(Unavailable, match="cannot read the registry configuration"):
        config.load(tmp_path)
    os.rmdir(tmp_path / "registries.conf")
    (tmp_path / "registries.conf").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="is not valid TOML"):
        config.load(tmp_path)
