"""``plugrun plugin ls``: what is installed, and what of it can be used here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import option

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.manager import Declared

_COLUMNS = {"Name": "NAME", "Kind": "KIND", "Dist": "DIST", "Version": "VERSION", "API": "API", "Usable": "USABLE"}


def ls(
    common: Globals,
    format_: Annotated[str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")] = None,
) -> None:
    """List the installed drivers: whether each works here, or why not."""
    with engine(common, changes=False) as opened:
        text.say(text.render(rows(opened), format_, _COLUMNS))


def rows(opened: Engine) -> list[dict[str, Any]]:
    """Return one row a driver, then one a plugin that was rejected."""
    from plugrun.drivers import finding

    plugins, root = opened.plugins, opened.paths.root
    found = [_row(declared, kind, finding(kind, declared, root)) for kind, declared in plugins.drivers()]
    rejected = [
        {"Name": one.name, "Kind": "-", "Dist": one.dist, "Version": one.version, "API": "-", "Usable": one.reason}
        for one in plugins.rejected
    ]
    return found + rejected


def _row(declared: Declared[Any], kind: str, reason: str | None) -> dict[str, Any]:
    return {
        "Name": declared.spec.name,
        "Kind": kind,
        "Dist": declared.dist,
        "Version": declared.version,
        "API": str(declared.spec.api),
        "Usable": reason or "yes",
    }
