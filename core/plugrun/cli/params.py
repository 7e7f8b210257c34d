"""What a command takes, declared once in its signature, for two readers: the quick parser and Typer.

The first parameter of every command is the global options. Each of the others is ``Annotated`` with a marker of this
module, or is a named tuple whose fields are; such a tuple is how commands share options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from types import FunctionType

REQUIRED: Any = ...


class Option(NamedTuple):
    """An option.

    :param names: as typed, with their dashes; made of the parameter's name when empty.
    :param panel: heading it stands under in the help.
    """

    names: tuple[str, ...]
    help: str
    metavar: str | None
    panel: str | None


class Argument(NamedTuple):
    """A positional argument; one of type ``list`` takes all that is left, and so comes last."""

    metavar: str


class Parameter(NamedTuple):
    """One thing a command takes.

    :param name: the command's keyword for it.
    :param kind: ``bool``, ``int``, ``str``, or ``list`` of ``str``.
    :param default: :data:`REQUIRED` if there is none.
    :param group: the keyword of the named tuple it is a field of, and that tuple's type.
    """

    name: str
    kind: type
    default: Any
    marker: Option | Argument
    group: tuple[str, Callable[..., Any]] | None

    @property
    def names(self) -> tuple[str, ...]:
        """The option's names."""
        assert isinstance(self.marker, Option)
        return self.marker.names or (f"--{self.name.strip('_').replace('_', '-')}",)

    @property
    def negation(self) -> str | None:
        """The name that turns off a flag which is on by default."""
        return f"--no-{self.names[0].lstrip('-')}" if self.kind is bool and self.default is True else None


def option(*names: str, help: str, metavar: str | None = None, panel: str | None = None) -> Option:  # noqa: A002
    """Mark a parameter as an option."""
    return Option(names, help, metavar, panel)


def argument(metavar: str) -> Argument:
    """Mark a parameter as a positional argument; the command's docstring says what it is if that needs words."""
    return Argument(metavar)


def parameters(command: Callable[..., Any]) -> Iterator[Parameter]:
    """Yield what a command takes: its own in the order of its signature, then what it shares with others."""
    function: FunctionType = command  # type: ignore[assignment]
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    first_default = len(names) - len(function.__defaults__ or ())
    defaults = [*[REQUIRED] * first_default, *(function.__defaults__ or ())]
    hints = get_type_hints(function, include_extras=True)
    shared = [name for name in names if hasattr(hints[name], "_field_defaults")]
    for name, default in zip(names, defaults, strict=True):
        if name not in shared:
            yield _parameter(name, hints[name], default)
    for name in shared:
        yield from fields(hints[name], group=name)


def fields(group_type: Any, *, group: str = "") -> Iterator[Parameter]:
    """Yield the fields of a named tuple of parameters.

    :param group: the keyword of the command that takes the tuple.
    """
    hints = get_type_hints(group_type, include_extras=True)
    for name, default in group_type._field_defaults.items():
        yield _parameter(name, hints[name], default, (group, group_type))


def _parameter(name: str, hint: Any, default: Any, group: tuple[str, Callable[..., Any]] | None = None) -> Parameter:
    kinds = [kind for kind in get_args(hint.__origin__) if kind is not type(None)] or [hint.__origin__]
    kind = list if get_origin(hint.__origin__) is list else get_origin(kinds[0]) or kinds[0]
    return Parameter(name, kind, default, hint.__metadata__[0], group)


def call(command: Callable[..., Any], common: Any, values: dict[Parameter, Any]) -> Any:
    """Call a command with a value for each of its parameters."""
    arguments: dict[str, Any] = {}
    groups: dict[tuple[str, Callable[..., Any]], dict[str, Any]] = {}
    for parameter, value in values.items():
        into = groups.setdefault(parameter.group, {}) if parameter.group else arguments
        into[parameter.name] = value
    for (name, make), fields in groups.items():
        arguments[name] = make(**fields)
    return command(common, **arguments)
