"""What is redrawn on stderr: the lines of a pull, warnings above them, and nothing wider than the screen."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from plugrun import terminal
from plugrun.cli import live, pulling

NAME = "localhost:5000/team/a-rather-long-repository-name/application:v1.2.3"


def screen(written: str) -> list[str]:
    """Return what a terminal shows after this: lines, carriage returns, cursor up, erase below."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[\d*[A-Z]|[\r\n]|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
            assert row >= 0
        elif part == "\x1b[J":
            lines = [*lines[:row], ""]
        elif part != "\r":
            lines[row] = part + lines[row][len(part) :]
    return [line for line in lines if line]


@pytest.fixture(autouse=True)
def no_warnings_yet(monkeypatch) -> None:
    monkeypatch.setattr(live, "_warned", {})


@pytest.fixture
def columns(monkeypatch):
    def of(number: int) -> None:
        monkeypatch.setattr(terminal, "size", lambda _descriptor: (24, number))

    return of


def layer(size: int = 3_010_000, **more: Any) -> Any:
    state = {"done": False, "present": False, "fetched": 0, "unpacked": 0, "resumed": 0} | more
    return SimpleNamespace(layer=SimpleNamespace(digest="sha256:" + 64 * "a", size=size), **state)


def test_a_warning_stands_above_what_is_redrawn(capsys):
    with live.live() as shown:
        shown.draw(["one", "two"])
        live.warn("try again")
        assert screen(capsys.readouterr().err) == ["plugrun: warning: try again", "one", "two"]


def test_what_is_redrawn_goes_and_warnings_stay(capsys):
    with live.live() as shown:
        shown.draw(["one", "two"])
        live.warn("try again")
        shown.draw(["three"])
    live.warn("late")
    assert screen(capsys.readouterr().err) == ["plugrun: warning: try again", "plugrun: warning: late"]


def test_the_same_trouble_of_several_threads_is_told_once(capsys, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: now)
    for what in ("a", "b", "a"):
        live.warn(what)
    now += 60
    live.warn("a")
    assert capsys.readouterr().err.replace("plugrun: warning: ", "").split() == ["a", "b", "a"]


def test_a_warning_is_one_write(monkeypatch):
    written = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None))
    live.warn("a\x1b[2J")
    assert written == ["plugrun: warning: a\\x1b[2J\n"]


def test_no_line_is_as_wide_as_the_screen(capsys, columns):
    columns(40)
    with live.live() as shown:
        shown.draw(["x" * 100])
        assert screen(capsys.readouterr().err) == ["x" * 39]


@pytest.mark.parametrize(
    ("width", "name"),
    [(120, f" {NAME}"), (60, " …-repository-name/application:v1.2.3"), (40, " …lication:v1.2.3"), (33, "")],
)
def test_a_name_makes_room_for_what_changes(columns, width, name):
    columns(width)
    shown = live.fitted("Pulling", NAME, "1 of 2 layers")
    assert len(shown) < width
    assert shown == f"Pulling{name}: 1 of 2 layers"


@pytest.mark.parametrize("width", [40, 55, 56, 60, 80, 200])
def test_how_far_a_layer_is_can_be_read_on_any_screen(columns, width):
    columns(width)
    line = pulling._line(layer(999_000_000, fetched=499_500_000), width)
    assert len(line) < width
    assert "50%" in line if width < 56 else "499MB of 999MB" in line or "500MB of 999MB" in line


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "0 layers fetched: 0B in 1.0 s"),
        ([layer(present=True)], "Nothing to fetch: 1 layer was here"),
        ([layer(present=True)] * 2, "Nothing to fetch: 2 layers were here"),
        ([layer(), layer(present=True)], "1 layer fetched, 1 was here: 3.01MB in 1.0 s"),
        ([layer(), layer(resumed=1000)], "2 layers fetched: 6.02MB in 1.0 s, 1kB of it from before"),
    ],
)
def test_the_summary_of_a_pull(layers, said):
    assert pulling._summary(layers, 1.0) == said
