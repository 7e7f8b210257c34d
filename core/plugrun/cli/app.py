"""The program: which command lives where, global options, and what an error becomes.

Commands are imported when they are called, so that each pays only for itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from plugrun.cli.context import Globals
from plugrun.cli.errors import exit_code_for, report

RUN = "Run containers"
LOOK = "Look at containers"
IMAGES = "Images"
ENGINE = "Engine"


class Entry(NamedTuple):
    """Where a command is: ``module:function``, and the heading it stands under in the help."""

    target: str
    panel: str | None = None
    hidden: bool = False


_CONTAINER = {
    "create": Entry("run:create", RUN),
    "run": Entry("run:run", RUN),
    "start": Entry("control:start", RUN),
    "stop": Entry("control:stop", RUN),
    "kill": Entry("control:kill", RUN),
    "wait": Entry("control:wait", RUN),
    "rm": Entry("control:rm", RUN),
    "exec": Entry("exec:exec_", RUN),
    "attach": Entry("attach:attach", RUN),
    "logs": Entry("logs:logs", LOOK),
    "inspect": Entry("inspect:inspect_container", LOOK),
}
_GROUPS: Mapping[str, tuple[str, Mapping[str, Entry]]] = {
    "container": (
        "Work with containers.",
        {**_CONTAINER, "ls": Entry("ps:ps", LOOK), "cleanup": Entry("control:cleanup", hidden=True)},
    ),
    "image": (
        "Work with images.",
        {
            "ls": Entry("images:ls"),
            "load": Entry("images:load"),
            "import": Entry("images:import_"),
            "inspect": Entry("images:inspect"),
            "rm": Entry("images:rm"),
        },
    ),
    "plugin": ("See the installed drivers.", {"ls": Entry("plugin:ls")}),
}
_TOP: Mapping[str, Entry] = {
    **_CONTAINER,
    "ps": Entry("ps:ps", LOOK),
    "inspect": Entry("inspect:inspect", LOOK),
    "images": Entry("images:ls", IMAGES),
    "load": Entry("images:load", IMAGES),
    "import": Entry("images:import_", IMAGES),
    "rmi": Entry("images:rm", IMAGES),
    "info": Entry("system:info", ENGINE),
    "doctor": Entry("system:doctor", ENGINE),
    "version": Entry("system:version", ENGINE),
}
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# Everything after the image belongs to the container's command.
_COMMAND_LAST = {"run", "create", "exec"}


class LazyGroup(TyperGroup):
    """A group whose commands are imported when asked for."""

    entries: Mapping[str, Entry] = {}

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Return the command names in the order of the help."""
        return [*self.entries, *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is Typer's
        """Return a command, importing its module."""
        entry = self.entries.get(cmd_name)
        return _command(cmd_name, entry) if entry else self.commands.get(cmd_name)


class Program(LazyGroup):
    """The top level: commands, groups, and what plugins add."""

    entries = _TOP

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the command names in the order of the help."""
        return [*super().list_commands(ctx), *_GROUPS, *self._added().commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; plugins are loaded only when none of ours has the name."""
        if cmd_name in _GROUPS:
            return _group(cmd_name)
        return super().get_command(ctx, cmd_name) or self._added().get_command(ctx, cmd_name)

    @staticmethod
    def _added() -> TyperGroup:
        from plugrun.manager import load

        added = typer.Typer(add_completion=False, callback=lambda: None)
        load().add_commands(added)
        return typer.main.get_group(added)


def program() -> Any:
    """Build the top-level command."""
    app = typer.Typer(cls=Program, add_completion=True, context_settings=_SETTINGS, no_args_is_help=True)
    app.callback()(_globals)
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; print what went wrong, if anything.

    :return: the exit code.
    """
    command_name = next((word for word in arguments if word in _TOP or word in _GROUPS), "")
    try:
        result = program().main(args=list(arguments), prog_name="plugrun", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the one place where errors become text
        report(error)
        return exit_code_for(error, command_name)
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0


def _globals(
    ctx: typer.Context,
    storage: Annotated[str | None, typer.Option(help="Storage driver of new containers.", metavar="DRIVER")] = None,
    net: Annotated[str | None, typer.Option(help="Network of new containers.", metavar="NETWORK")] = None,
    root: Annotated[str | None, typer.Option(help="Where images and containers are kept.", metavar="DIR")] = None,
    runroot: Annotated[str | None, typer.Option(help="Where run-time state is kept.", metavar="DIR")] = None,
    runtime: Annotated[str | None, typer.Option(help="OCI runtime, by name or path.", metavar="RUNTIME")] = None,
    debug: Annotated[bool, typer.Option("--debug", "-D", help="Show where errors come from.")] = False,
    version: Annotated[bool, typer.Option("--version", "-v", help="Print the version.")] = False,
) -> None:
    """Run containers from images, with the storage and network drivers you choose for each."""
    if version:
        from plugrun import __version__

        typer.echo(f"plugrun version {__version__}")
        raise typer.Exit
    ctx.obj = Globals(root=root, run_root=runroot, storage=storage, network=net, runtime=runtime, debug=debug)


def _command(name: str, entry: Entry) -> Any:
    module, _, function = entry.target.partition(":")
    callback = getattr(importlib.import_module(f"plugrun.cli.{module}"), function)
    app = typer.Typer(add_completion=False)
    settings = {**_SETTINGS, "allow_interspersed_args": name not in _COMMAND_LAST}
    app.command(name, rich_help_panel=entry.panel, hidden=entry.hidden, context_settings=settings)(callback)
    return typer.main.get_command(app)


def _group(name: str) -> Any:
    summary, entries = _GROUPS[name]
    group = type("Group", (LazyGroup,), {"entries": entries})
    app = typer.Typer(cls=group, add_completion=False, context_settings=_SETTINGS, no_args_is_help=True, help=summary)
    app.callback()(lambda: None)
    command = typer.main.get_command(app)
    command.name = name
    return command
