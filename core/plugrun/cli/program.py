"""The whole command line as Typer sees it: help, completion, what is wrong with a line, and plugins' commands."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from plugrun.cli.commands import GROUPS, TOP, VERSION, Entry, Group
from plugrun.cli.context import Globals
from plugrun.cli.params import REQUIRED, Argument, Option, Parameter, call, fields, parameters

_MANAGEMENT = "Management commands"
_ALIKE = 0.5  # of difflib's ratio: "rn" is like "run" and "rm"
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_REQUIRED_TYPES: Mapping[type, Any] = {str: str, list: list[str]}
_OPTIONAL_TYPES: Mapping[type, Any] = {bool: bool, int: int | None, str: str | None, list: list[str] | None}


class _Command(TyperCommand):
    """A command whose usage shows its arguments as it declares them."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Typer's
        """Return the words after the command's name."""
        return ["[OPTIONS]", *(str(one.metavar) for one in self.params if one.param_type_name == "argument")]


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

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that ``args`` begin with; suggest others when there is none."""
        if self.get_command(ctx, args[0]) is None:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), cutoff=_ALIKE)
            ctx.fail(f"No such command {args[0]!r}" + (f"; did you mean {' or '.join(close)}?" if close else "."))
        return super().resolve_command(ctx, args)


class _DefaultGroup(LazyGroup):
    """A group whose word is a command by itself, too."""

    group: Group

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command as the quick parser does."""
        found = self.group.find(args)
        assert found is not None
        if found[0] is not self.group.default:
            return super().resolve_command(ctx, args)
        return None, _command("", found[0]), args


class Program(LazyGroup):
    """The top level: commands, groups, and what plugins add."""

    entries = TOP

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the command names in the order of the help."""
        return [*super().list_commands(ctx), *GROUPS, *self._added().commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; plugins are loaded only when none of ours has the name."""
        if cmd_name in GROUPS:
            return _group(cmd_name, GROUPS[cmd_name])
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
    app.callback()(_with_parameters(_begin, list(fields(Globals))))
    return typer.main.get_command(app)


def _begin(context: typer.Context, values: dict[Parameter, Any]) -> None:
    """Run containers from images, with the storage and network drivers you choose for each."""
    common = Globals(**{parameter.name: value for parameter, value in values.items()})
    if common.version:
        VERSION.load()(common)
        raise typer.Exit
    context.obj = common


def _command(name: str, entry: Entry) -> Any:
    function = entry.load()

    @functools.wraps(function)
    def execute(context: typer.Context, values: dict[Parameter, Any]) -> Any:
        common = context.find_root().obj
        return call(function, common if isinstance(common, Globals) else Globals(), values)

    app = typer.Typer(add_completion=False)
    settings = {**_SETTINGS, "allow_interspersed_args": not entry.command_last}
    bridged = _with_parameters(execute, list(parameters(function)))
    app.command(name, cls=_Command, rich_help_panel=entry.panel, hidden=entry.hidden, context_settings=settings)(
        bridged
    )
    return typer.main.get_command(app)


def _group(name: str, group: Group) -> Any:
    base = _DefaultGroup if group.default else LazyGroup
    lazy = type("Group", (base,), {"entries": group.entries, "group": group})
    app = typer.Typer(
        cls=lazy,
        add_completion=False,
        context_settings=_SETTINGS,
        no_args_is_help=True,
        help=group.summary,
        subcommand_metavar=_usage(group),
    )
    app.callback()(lambda: None)
    command: Any = typer.main.get_command(app)
    command.name, command.rich_help_panel = name, group.panel or _MANAGEMENT
    return command


def _usage(group: Group) -> str | None:
    """Return what follows the word of a group that is a command by itself, for the help; Typer knows the others'."""
    if group.default is None:
        return None
    own = [one.marker.metavar for one in parameters(group.default.load()) if isinstance(one.marker, Argument)]
    return f"{' '.join(own)} | COMMAND [ARGS]..."


def _with_parameters(
    function: Callable[[typer.Context, dict[Parameter, Any]], Any], declared: list[Parameter]
) -> Callable[..., Any]:
    """Give a function the signature that Typer reads: the context, and each parameter with Typer's marker."""

    @functools.wraps(function)
    def bridge(context: typer.Context, **values: Any) -> Any:
        return function(context, {one: values[one.name] for one in declared})

    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    own += [inspect.Parameter(one.name, keyword, **_typed(one)) for one in declared]
    bridge.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    bridge.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
    return bridge


def _typed(parameter: Parameter) -> dict[str, Any]:
    marker = parameter.marker
    if isinstance(marker, Option):
        names = list(parameter.names)
        if parameter.negation:
            names[0] += f"/{parameter.negation}"
        made: Any = typer.Option(*names, help=marker.help, metavar=marker.metavar, rich_help_panel=marker.panel)
    else:
        made = typer.Argument(metavar=marker.metavar, hidden=True, show_default=False)
    if parameter.default is REQUIRED:
        return {"annotation": Annotated[_REQUIRED_TYPES[parameter.kind], made]}
    return {"default": parameter.default, "annotation": Annotated[_OPTIONAL_TYPES[parameter.kind], made]}
