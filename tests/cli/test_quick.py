"""The quick parser understands what Typer understands, and as Typer does."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugrun.cli import commands, program, quick
from plugrun.cli.context import Globals
from plugrun.cli.params import Argument, fields, parameters

COMMANDS = [
    *([name] for name in commands.TOP),
    *([group, name] for group, found in commands.GROUPS.items() for name in found.entries),
]


def typer_parse(words: list[str]) -> tuple[Globals, dict[str, Any]] | None:
    """Return what Typer makes of a line; ``None`` if it refuses it or shows help."""
    calls = []
    patch = pytest.MonkeyPatch()
    patch.setattr(program, "call", lambda _function, common, values: calls.append((common, values)))
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            program.program().main(args=words, prog_name="plugrun", standalone_mode=False)
    except Exception as error:
        if type(error).__mro__[1].__name__ not in {"UsageError", "BadParameter", "ClickException"}:
            raise
        return None
    finally:
        patch.undo()
    return (calls[0][0], by_name(calls[0][1])) if calls else None


def quick_parse(words: list[str]) -> tuple[Globals, dict[str, Any]] | None:
    understood = quick.parse(words)
    return (understood[1], by_name(understood[2])) if understood else None


def by_name(values: dict[Any, Any]) -> dict[str, Any]:
    return {parameter.name: value for parameter, value in values.items()}


VALUES = st.sampled_from(["web", "", "-", "--", "-x", "--rm", "a=b", "=", "5", "-1", "KEY=VALUE", "ü", "a b"])


def line(words: list[str]) -> st.SearchStrategy[list[str]]:
    """Make lines of one command: its options in all spellings, values, and stray words."""
    entry = commands.TOP[words[0]] if len(words) == 1 else commands.GROUPS[words[0]].entries[words[1]]
    declared = list(parameters(entry.load()))
    return st.tuples(pieces(fields(Globals)), st.just([words]), pieces(declared)).map(
        lambda parts: [word for part in parts for piece in part for word in piece]
    )


def pieces(declared) -> st.SearchStrategy[list[list[str]]]:
    choices = [VALUES.map(lambda word: [word])]
    for parameter in declared:
        if isinstance(parameter.marker, Argument):
            continue
        for name in [*parameter.names, *filter(None, [parameter.negation])]:
            if parameter.kind is bool:
                choices.append(st.just([name]))
                continue
            values = st.integers(-99, 99).map(str) if parameter.kind is int else VALUES
            choices.append(values.map(lambda value, name=name: [name, value]))
            glue = "=" if name.startswith("--") else ""
            choices.append(values.map(lambda value, name=name, glue=glue: [f"{name}{glue}{value}"]))
    return st.lists(st.one_of(choices), max_size=5)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(COMMANDS).flatmap(line))
@example(["run", "-it", "--rm", "-w/tmp", "-e", "A=1", "--env=B", "busybox", "ls", "-la", "--", "-x"])
@example(["--net", "none", "--root=/r", "run", "--", "busybox", "--rm"])
@example(["run", "-h", "web", "busybox"])
@example(["run", "-dh", "web", "busybox"])
@example(["ps", "-a", "-n", "-1"])
@example(["logs", "web", "-f", "--tail", "5"])
@example(["rm", "one", "-f", "two"])
@example(["exec", "-e", "A=b", "web", "env", "-i"])
@example(["image", "import", "-", "name:tag", "-c", "CMD x"])
@example(["run", "-p", "80:80", "-p=81:81", "-P", "--net", "front", "--network=back", "--dns-opt", "rotate", "busybox"])
@example(["port", "web"])
@example(["port", "web", "80/udp"])
@example(["port", "add"])
@example(["port", "add", "80"])
@example(["port", "add", "web", "8080:80"])
@example(["port", "rm", "web", "80", "81"])
@example(["port", "rm", "--", "web", "80"])
@example(["port", "web", "80", "81"])
def test_as_typer_does(words):
    assert quick_parse(words) == typer_parse(words)


@pytest.mark.parametrize("words", [["--version"], ["-v"], ["--root", "/r", "-D", "--version"]])
def test_the_version_is_a_command(words):
    entry, _, values = quick.parse(words)
    assert (entry, values) == (commands.VERSION, {})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_flags_take_a_truth_value_as_in_docker(text, value):
    common, values = quick_parse(["run", f"--rm={text}", f"--sig-proxy={text}", "busybox"])
    assert common == Globals()
    assert values["rm"] is values["sig_proxy"] is value


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--version", "ps"],
        ["run"],
        ["run", "--help"],
        ["run", "--nosuch", "busybox"],
        ["run", "--name"],
        ["run", "--rm=maybe", "busybox"],
        ["run", "--no-sig-proxy=false", "busybox"],
        ["run", "--stop-timeout", "x", "busybox"],
        ["run", "--stop-timeout", "9" * 30, "busybox"],
        ["run", "-Z", "busybox"],
        ["nosuch"],
        ["image"],
        ["image", "nosuch"],
        ["ps", "web"],
        ["attach", "a", "b"],
    ],
)
def test_what_it_does_not_understand_is_typers(words):
    assert quick_parse(words) is None


PORT_LINES = {
    "web": ("port", {"container": "web", "private": None}),
    "web 80": ("port", {"container": "web", "private": "80"}),
    "add": ("port", {"container": "add", "private": None}),
    "rm 80": ("port", {"container": "rm", "private": "80"}),
    "add web 8080:80": ("add", {"container": "web", "ports": ["8080:80"]}),
    "rm web 80 81": ("rm", {"container": "web", "ports": ["80", "81"]}),
}


@pytest.mark.parametrize("words", PORT_LINES)
def test_port_is_a_command_and_a_group(words):
    """Two words after ``add`` make it a command; fewer, and it is a container."""
    entry, _, values = quick.parse(["port", *words.split()])
    assert (entry.target, by_name(values)) == (f"port:{PORT_LINES[words][0]}", PORT_LINES[words][1])


def test_there_is_help_for_what_port_adds(capsys):
    program.program().main(args=["port", "add", "--help"], prog_name="plugrun", standalone_mode=False)
    assert "Usage: plugrun port add [OPTIONS] CONTAINER" in capsys.readouterr().out
