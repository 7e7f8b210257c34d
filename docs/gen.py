"""Write the reference pages from the code: docs/hooks.md, docs/cli.md, docs/drivers.md.

`--check` writes nothing and exits with 1 when a page is not what the code says; tests/test_docs.py runs it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plugrun import hookspecs
from plugrun.cli.program import program
from plugrun.manager import load

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/gen.py (make docs); edit the code instead. -->"


def main() -> int:
    pages = {"hooks.md": hooks(), "cli.md": cli(), "drivers.md": drivers()}
    stale = [name for name, text in pages.items() if not same(DOCS / name, text)]
    if "--check" not in sys.argv:
        for name in stale:
            (DOCS / name).write_text(pages[name])
            print(f"docs: wrote {name}")
        return 0
    for name in stale:
        print(f"docs/{name} is not what the code says; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


def same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def page(title: str, lines: Iterator[str]) -> str:
    text = "\n".join([f"# {title}", "", NOTE, "", *lines])
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"


# --- Hooks ---------------------------------------------------------------------------------------------------


def hooks() -> str:
    return page("Hooks", hook_lines())


def hook_lines() -> Iterator[str]:
    yield from prose(hookspecs)
    for name, function in vars(hookspecs).items():
        if not hasattr(function, "plugrun_spec"):
            continue
        yield from ("", f"## {name}", "", "```python", f"def {name}{signature(function)}", "```", "")
        yield from prose(function)


def signature(function: Any) -> str:
    """Return the signature as written, which :func:`inspect.signature` would put into quotes."""
    arguments = ", ".join(f"{name}: {kind}" for name, kind in function.__annotations__.items() if name != "return")
    return f"({arguments}) -> {function.__annotations__['return']}"


def prose(thing: Any) -> Iterator[str]:
    """Return a docstring as Markdown."""
    text = inspect.getdoc(thing) or ""
    text = re.sub(r":(?:func|class|data|meth|mod):`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    text = re.sub(r"^:param (\w+): ", r"- **\1**: ", text, flags=re.MULTILINE)
    text = re.sub(r"^:(?:return|returns): ", "- **returns** ", text, flags=re.MULTILINE)
    text = re.sub(r"^:raises (\w+): ", r"- **raises \1**: ", text, flags=re.MULTILINE)
    yield text


# --- Command line --------------------------------------------------------------------------------------------


def cli() -> str:
    return page("Command line", command_lines("plugrun", program(), {}))


def command_lines(name: str, command: Any, shown: dict[Any, str]) -> Iterator[str]:
    """Describe a command and those below it; ``shown`` has the name under which each function came first."""
    first = shown.setdefault(inspect.unwrap(command.callback), name) if command.callback else name
    if first != name:
        yield from ("", f"## {name}", "", f"The same as [`{first}`](#{first.replace(' ', '-')}).")
        return
    yield from ("", f"## {name}", "", first_paragraphs(command.help), "")
    arguments = [one.metavar or one.name.upper() for one in command.params if one.param_type_name == "argument"]
    subcommands = hasattr(command, "list_commands")
    words = command.subcommand_metavar.removesuffix(" [ARGS]...") if subcommands else ""
    usage = [name, "[OPTIONS]", *arguments, *filter(None, [words])]
    yield from ("```text", " ".join(usage), "```", "")
    rows = list(option_rows(command))
    if rows:
        yield from ("| option | meaning |", "|---|---|", *rows, "")
    if subcommands:
        context = command.make_context(name, [], resilient_parsing=True)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None and not found.hidden:
                yield from command_lines(f"{name} {child}", found, shown)


def first_paragraphs(text: str | None) -> str:
    return inspect.cleandoc((text or "").replace("``", "`"))


def option_rows(command: Any) -> Iterator[str]:
    for option in command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
        value = "" if option.is_flag else f" `{option.metavar or option.name.upper()}`"
        meaning = (option.help or "").replace("|", "\\|")
        if isinstance(option.default, str) and option.default:
            meaning += f" Without it: `{option.default}`."
        yield f"| {names}{value} | {meaning} |"


# --- Drivers -------------------------------------------------------------------------------------------------


def drivers() -> str:
    return page("Drivers", driver_lines())


def driver_lines() -> Iterator[str]:
    plugins = load()
    yield "The drivers that come with plugrun. `plugrun plugin ls` shows those installed, and which are usable."
    for kind, declared in (("Storage", plugins.storage), ("Network", plugins.network)):
        yield from ("", f"## {kind}", "")
        yield from ("| driver | distribution | API | priority | supports | options |", "|---|---|---|---|---|---|")
        for name, one in sorted(declared.items()):
            spec = one.spec
            supports = ", ".join(sorted(spec.supports)) or "-"
            options = ", ".join(spec.options().model_fields) if spec.options else "-"
            yield f"| `{name}` | {one.dist} | {spec.api} | {spec.priority} | {supports} | {options} |"


if __name__ == "__main__":
    sys.exit(main())
