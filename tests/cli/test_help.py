"""Help: there is some for every command, whatever its words would mean as markup."""

from __future__ import annotations

import pytest

from plugrun.cli import commands, program
from plugrun.cli.params import REQUIRED, Argument, parameters

COMMANDS = [
    *([name] for name in commands.TOP),
    *([group] for group in commands.GROUPS),
    *([group, name] for group, found in commands.GROUPS.items() for name in found.entries),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words, capsys):
    program.program().main(args=[*words, "--help"], prog_name="plugrun", standalone_mode=False)
    assert f"Usage: plugrun {' '.join(words)} " in capsys.readouterr().out


def test_what_may_be_left_out_is_in_brackets():
    left_out = {
        (" ".join(words), parameter.name)
        for words in COMMANDS
        if (found := commands.find(words))
        for parameter in parameters(found[0].load())
        if isinstance(parameter.marker, Argument) and parameter.default is not REQUIRED
        if not parameter.marker.metavar.startswith("[")
    }
    assert left_out == set()
