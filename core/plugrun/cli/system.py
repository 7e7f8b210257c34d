"""``plugrun info``, ``doctor`` and ``version``: the engine itself."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Any

from plugrun import VERSION_LINE, __version__
from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import option
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from plugrun.engine import Engine

_Format = Annotated[str | None, option("--format", "-f", help="json, or a Go template.", metavar="FORMAT")]


def version(common: Globals, format_: _Format = None) -> None:  # noqa: ARG001 - every command takes it
    """Print the versions of the engine and its plugin API."""
    from plugrun.api import API

    facts = {"Version": __version__, "PluginAPI": str(API)}
    _print(facts, format_)


def print_version(common: Globals) -> None:  # noqa: ARG001 - every command takes it
    """Print the version in one line, as ``--version`` does."""
    text.say(VERSION_LINE)


def info(common: Globals, format_: _Format = None) -> None:
    """Show what the engine is made of here: drivers, runtimes, directories, counts."""
    with engine(common, changes=False) as opened:
        _print(_facts(opened), format_)


def doctor(common: Globals) -> int:
    """Check what the engine needs; say what is missing and what would help.

    The exit code is 1 when containers cannot be run.
    """
    from plugrun.doctor import checks

    with engine(common, changes=False) as opened:
        found = list(checks(opened))
    rows = [[check.mark, check.what, check.finding] for check in found]
    text.say(text.table(["", "CHECK", "FINDING"], rows, width=text.screen_width()))
    return 1 if any(check.mark == "fail" for check in found) else 0


def _facts(opened: Engine) -> dict[str, Any]:
    from plugrun.api import API
    from plugrun.cli.plugin import rows
    from plugrun.oci import runtime

    records = opened.containers.all()
    system = os.uname()
    return {
        "Version": __version__,
        "PluginAPI": str(API),
        "Root": str(opened.paths.root),
        "RunRoot": str(opened.paths.run_root),
        "Containers": len(records),
        "ContainersRunning": sum(map(is_running, records)),
        "Images": len(opened.images.list()),
        "Kernel": system.release,
        "Architecture": system.machine,
        "CPUs": os.cpu_count() or 1,
        "Drivers": {f"{row['Kind']} {row['Name']}": row["Usable"] for row in rows(opened)},
        "Runtimes": {one.name: one.reason or f"{one.path}, version {one.version}" for one in runtime.survey()},
    }


def _print(facts: dict[str, Any], template: str | None) -> None:
    if template == "json":
        text.say(json.dumps(facts))
    elif template is not None:
        text.say(text.fill(template, facts))
    else:
        text.say("\n".join(_lines(facts, "")))


def _lines(facts: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {text.printable(str(value))}")
    return lines
