"""Which images a filter means."""

from __future__ import annotations

import pytest

from plugrun.errors import InvalidArgument, NotFound
from plugrun.images import filters
from plugrun.images.config import ImageConfig
from plugrun.images.image import Image


def image(*names, created="", **labels):
    config = ImageConfig("amd64", "linux", created=created, labels=labels)
    return Image("sha256:" + "0" * 64, names, "sha256:" + "1" * 64, config, (), 0)


OLD = image("docker.io/library/old:1", created="2020-01-01T00:00:00Z", a="1", b="2")
MIDDLE = image("localhost:5000/team/app:v2", created="2021-01-01T00:00:00.5Z", a="2")
NEW = image(created="2022-01-01T00:00:00Z")
UNDATED = image("docker.io/team/undated:1")
IMAGES = {"old": OLD, "middle": MIDDLE, "new": NEW, "undated": UNDATED}


def find(name):
    if name not in IMAGES:
        raise NotFound(f"no image {name!r}")
    return IMAGES[name]


def passing(*texts):
    fits = filters.parse(texts, find)
    return [name for name, one in IMAGES.items() if any(fits(one, given) for given in one.references or ("",))]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], ["old", "middle", "new", "undated"]),
        (["dangling=true"], ["new"]),
        (["dangling=1"], ["new"]),
        (["dangling=false"], ["old", "middle", "undated"]),
        (["dangling=0", "dangling=true"], ["old", "middle", "new", "undated"]),
        (["label=a"], ["old", "middle"]),
        (["label=a=1"], ["old"]),
        (["label=a=3"], []),
        (["label=a=1", "label=b=2"], ["old"]),
        (["label=a=1", "label=a=2"], []),  # all labels, unlike the others
        (["label!=a"], ["new", "undated"]),
        (["label!=a=1"], ["middle", "new", "undated"]),
        (["label=a", "label!=b"], ["middle"]),
        (["before=middle"], ["old", "undated"]),
        (["since=middle"], ["new"]),
        (["since=old", "before=new"], ["middle"]),
        (["since=new", "since=middle"], ["new"]),
        (["until=2021-01-01T00:00:00Z"], ["old", "undated"]),
        (["until=2021-01-01T00:00:01Z"], ["old", "middle", "undated"]),
        (["until=1h"], ["old", "middle", "new", "undated"]),
        (["reference=old"], ["old"]),
        (["reference=old:1"], ["old"]),
        (["reference=old:2"], []),
        (["reference=docker.io/library/old"], ["old"]),
        (["reference=docker.io/library/old:1"], ["old"]),
        (["reference=*"], ["old"]),  # no slash, as in Go
        (["reference=*/*"], ["undated"]),
        (["reference=*/*/*"], ["old", "middle", "undated"]),  # spelled out, each has two
        (["reference=o?d"], ["old"]),
        (["reference=[a-p]ld"], ["old"]),
        (["reference=[^a-n]ld"], ["old"]),
        (["reference=[^o]ld"], []),
        (["reference=\\old"], ["old"]),
        (["reference=[\\o]ld"], ["old"]),
        (["reference=o.d"], []),
        (["reference=old", "reference=team/undated"], ["old", "undated"]),
        (["reference=old", "label=a=2"], []),
    ],
)
def test_what_passes(texts, names):
    assert passing(*texts) == names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("colour=red", "unknown filter 'colour=red'"),
        ("dangling", "unknown filter 'dangling'"),
        ("label=", "unknown filter 'label='"),
        ("=x", "unknown filter '=x'"),
        ("dangling=maybe", "'maybe' is neither true nor false"),
        ("until=yesterday", "'yesterday' is neither a time nor a duration"),
        ("reference=[", "'[' has no end"),
        ("reference=[]a]", "'[' has no end"),
        ("reference=a\\", "'\\\\' has no end"),
        ("reference=[z-a]", "bad character range"),
    ],
)
def test_what_makes_no_sense_is_quoted(text, why):
    with pytest.raises(InvalidArgument) as refused:
        passing(text)
    assert why in str(refused.value)


def test_an_image_that_is_not_there_is_not_found():
    with pytest.raises(NotFound):
        passing("before=absent")


def test_the_hint_lists_the_keys():
    with pytest.raises(InvalidArgument) as refused:
        filters.parse(["reference=a"], find, filters.PRUNING)
    assert refused.value.hint == "use until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]"


def test_a_name_that_another_tool_made_up_can_be_asked_for():
    made_up = image("V1 of mine")
    assert filters.parse(["reference=V1*"], find)(made_up, "V1 of mine")
    assert not filters.parse(["reference=*"], find)(NEW, "")
