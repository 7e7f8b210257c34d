"""What the two sides mean: Docker's table, without a file."""

from __future__ import annotations

import os

import pytest

from plugrun.copying import paths
from plugrun.copying.paths import Exists, Side, name_at, place, side, sides
from plugrun.errors import AlreadyExists, InvalidArgument, NotFound

FILE, DIRECTORY = Exists(directory=False), Exists(directory=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:/x", Side("web", "/x")),
        ("web:x", Side("web", "x")),
        ("web:", Side("web", "")),
        ("web:/a:b", Side("web", "/a:b")),
        ("web:-", Side("web", "-")),
        ("/a:b", Side(None, "/a:b")),
        ("./a:b", Side(None, "./a:b")),
        ("../a:b", Side(None, "../a:b")),
        (".hidden:b", Side(None, ".hidden:b")),
        ("plain", Side(None, "plain")),
        ("-", Side(None, "-")),
    ],
)
def test_a_colon_makes_a_container_unless_the_path_says_otherwise(text, expected):
    assert side(text) == expected
    assert side(text).is_stream == (text == "-")


@pytest.mark.parametrize("text", ["", ":x", ":"])
def test_what_names_nothing_is_refused(text):
    with pytest.raises(InvalidArgument):
        side(text)


@pytest.mark.parametrize(("source", "destination"), [("a", "b"), ("-", "-"), ("/a:b", "./c:d")])
def test_one_side_must_be_in_a_container(source, destination):
    with pytest.raises(InvalidArgument, match="neither"):
        sides(source, destination)


def test_two_containers_are_refused_with_a_way_that_works():
    with pytest.raises(InvalidArgument) as refused:
        sides("web:/x", "db:/y")
    assert refused.value.hint == "join two: plugrun cp web:/x - | plugrun cp - db:DIRECTORY"


@pytest.mark.parametrize(
    ("text", "path", "directory", "contents"),
    [
        ("c:x", "/x", False, False),
        ("c:/x/", "/x", True, False),
        ("c:/x/.", "/x", True, True),
        ("c:/x/./", "/x", True, False),
        ("c:", "/", True, True),
        ("c:/", "/", True, True),
        ("c:../../etc", "/etc", False, False),
        ("c:/a/../b", "/b", False, False),
        ("c:/a/..", "/", True, True),
        ("c://a//b", "/a/b", False, False),
        ("c:-rf", "/-rf", False, False),
        ("/x/.", "/x", True, True),
        ("//x", "/x", False, False),
    ],
)
def test_a_path_in_a_container_begins_at_its_root(text, path, directory, contents):
    found = place(side(text))
    assert (found.path, found.directory, found.contents, found.said) == (path, directory, contents, text)


def test_a_path_of_the_host_begins_where_the_caller_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place(side("x/y")).path == f"{tmp_path}/x/y"
    assert place(side("."))[:3] == (str(tmp_path), True, True)
    assert place(side(".."))[:3] == (str(tmp_path.parent), True, False)


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    with pytest.raises(NotFound, match="working directory"):
        place(side("x"))
    assert place(side("/x")).path == "/x"


# docs.docker.com/reference/cli/docker/container/cp, in its order; "src" and "dst" are the last components.
TABLE = [
    ("/src", "/dst", False, None, "dst"),
    ("/src", "/dst/", False, None, NotFound),
    ("/src", "/dst", False, FILE, "dst"),
    ("/src", "/dst/", False, FILE, InvalidArgument),
    ("/src", "/dst", False, DIRECTORY, "src"),
    ("/src", "/dst/", False, DIRECTORY, "src"),
    ("/src", "/dst", True, None, "dst"),
    ("/src", "/dst/", True, None, "dst"),
    ("/src/.", "/dst", True, None, "dst"),
    ("/src", "/dst", True, FILE, AlreadyExists),
    ("/src/.", "/dst", True, FILE, AlreadyExists),
    ("/src", "/dst", True, DIRECTORY, "src"),
    ("/src/", "/dst", True, DIRECTORY, "src"),
    ("/src/.", "/dst", True, DIRECTORY, None),
    ("/", "/dst", True, DIRECTORY, None),
]


@pytest.mark.parametrize(("source", "destination", "is_directory", "found", "expected"), TABLE)
def test_dockers_table(source, destination, is_directory, found, expected):
    arguments = place(Side("c", source)), place(Side(None, destination))
    if isinstance(expected, type):
        with pytest.raises(expected):
            name_at(*arguments, is_directory=is_directory, found=found)
    else:
        assert name_at(*arguments, is_directory=is_directory, found=found) == expected


def test_the_stream_is_not_a_path():
    assert paths.STREAM == "-"
    assert not Side("web", "-").is_stream
