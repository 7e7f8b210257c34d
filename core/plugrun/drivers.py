"""Drivers as plugins declare them: what is wrong with a declaration, which one to choose, and how to open one."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from plugrun.api import API, ApiVersion, DriverSpec
from plugrun.errors import DriverError, FailedPrecondition, InvalidArgument, NotFound, PlugrunError, Unavailable
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError

D = TypeVar("D")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Rejected(NamedTuple):
    """A plugin, or one driver of a plugin, that is installed and not used.

    :param name: the entry point's name, or the driver's when only that is at fault.
    :param reason: one sentence.
    :param kind: ``"storage"`` or ``"network"`` for a driver, ``""`` for a whole plugin.
    """

    name: str
    dist: str
    version: str
    reason: str
    kind: str = ""

    def __str__(self) -> str:
        what = f"{self.kind} driver" if self.kind else "plugin"
        return f"{what} {self.name!r} of {self.dist} {self.version} {self.reason}".replace("  ", " ")


class Declared(typing.NamedTuple, Generic[D]):
    """One driver and who declares it.

    :param plugin: the entry point's name.
    """

    spec: DriverSpec[D]
    plugin: str
    dist: str
    version: str

    def reason(self, state_dir: Path) -> str | None:
        """Say why the driver does not work here, ``None`` when it does. Never raises, whatever the probe does.

        :param state_dir: the driver's state directory, which need not exist yet.
        """
        try:
            answer: object = self.spec.probe(state_dir)
        except Exception as error:  # noqa: BLE001 - a third party's probe may raise anything
            return f"its probe failed: {describe(error)}"
        if answer is None or (isinstance(answer, str) and answer):
            return answer
        return f"its probe answered {answer!r} instead of a sentence"


def describe(error: BaseException) -> str:
    """Put an exception into one line: its class and its message."""
    return " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())


def problem(spec: object) -> str | None:
    """Say what makes a declaration unusable, ``None`` when nothing does."""
    if not isinstance(spec, DriverSpec):
        return f"is declared by {spec!r}, which is not a DriverSpec"
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        return f"has the invalid name {spec.name!r} (lower case letters, digits, '-' and '_')"
    if not (isinstance(spec.api, tuple) and len(spec.api) == 2 and all(isinstance(part, int) for part in spec.api)):
        return f"has the invalid API version {spec.api!r}"
    if not API.accepts(ApiVersion(*spec.api)):
        return f"was built for plugin API {ApiVersion(*spec.api)}, and this is {API}"
    for attribute in ("factory", "probe"):
        if not callable(getattr(spec, attribute)):
            return f"has a {attribute} that cannot be called"
    return None


def select(
    kind: str, name: str | None, drivers: Mapping[str, Declared[D]], rejected: Iterable[Rejected], root: Path
) -> Declared[D]:
    """Choose the driver ``name``, or the usable one of highest priority.

    :raises NotFound: no installed plugin declares it; the hint lists those that are.
    :raises FailedPrecondition: its declaration was rejected.
    :raises Unavailable: it, or every one, does not work here.
    """
    if name is None:
        return _default(kind, drivers, rejected, root)
    if name not in drivers:
        raise _missing(kind, name, drivers, rejected, root)
    if reason := _usable(kind, drivers[name], root):
        raise Unavailable(f"{kind} driver {name!r} cannot be used here: {reason}", hint=_others(kind, name, drivers))
    return drivers[name]


def open_driver(kind: str, declared: Declared[D], root: Path, options: Mapping[str, str], protocol: type[D]) -> D:
    """Make a driver: check its options, make its state directory, call its factory.

    :raises InvalidArgument: an option is unknown or its value is wrong.
    :raises Unavailable: the state directory cannot be made.
    :raises DriverError: the factory failed, or made something that is not a driver.
    """
    from plugrun.paths import ensure_private

    label = f"{kind} driver {declared.spec.name!r}"
    checked = _check_options(label, declared.spec, options)
    place = state_dir(root, kind, declared.spec.name)
    try:
        ensure_private(place.parent)
        ensure_private(place)
    except OSError as error:
        raise Unavailable(f"cannot make {place} for {label}: {error.strerror}") from error
    try:
        driver = declared.spec.factory(place, checked)
    except PlugrunError:
        raise
    except Exception as error:
        raise DriverError(f"{label} of {declared.dist} cannot be opened: {describe(error)}") from error
    if not isinstance(driver, protocol):
        raise DriverError(f"{label} of {declared.dist} made a {type(driver).__name__}, which lacks methods of a driver")
    return driver


def finding(kind: str, declared: Declared[Any], root: Path) -> str | None:
    """Say for a list why a driver does not work, ``None`` when it does; a pool that waits to be mounted stays so."""
    from plugrun.pools import mounting

    place = state_dir(root, kind, declared.spec.name)
    if kind == "storage":
        waiting, reason = mounting.problem(root, declared.spec.name, place)
        if waiting:
            return reason
    return declared.reason(place)


def _usable(kind: str, declared: Declared[Any], root: Path) -> str | None:
    """Say why a driver does not work, once its pool, if it has one, is mounted.

    :raises PlugrunError: that cannot be mounted. Nobody who made one wants new containers elsewhere.
    """
    place = state_dir(root, kind, declared.spec.name)
    if kind == "storage" and has_pool(root, declared.spec.name):
        from plugrun.pools import mounting

        mounting.ensure(root, declared.spec, place)
    return declared.reason(place)


def has_pool(root: Path, storage: str) -> bool:
    """Whether a pool is recorded for a storage driver (:mod:`plugrun.pools.record`): all that engines without pay."""
    return (root / "pools" / f"{storage}.json").exists()


def state_dir(root: Path, kind: str, name: str) -> Path:
    """Return the directory that belongs to one driver alone."""
    return root / kind / name


def _default(kind: str, drivers: Mapping[str, Declared[D]], rejected: Iterable[Rejected], root: Path) -> Declared[D]:
    for declared in sorted(drivers.values(), key=lambda one: (-one.spec.priority, one.spec.name)):
        if _usable(kind, declared, root) is None:
            return declared
    if not drivers:
        raise _missing(kind, None, drivers, rejected, root)
    raise Unavailable(f"no installed {kind} driver works here", hint=_overview(kind, drivers, rejected, root))


def _missing(
    kind: str, name: str | None, drivers: Mapping[str, Declared[D]], rejected: Iterable[Rejected], root: Path
) -> PlugrunError:
    rejected = list(rejected)
    refusals = dict.fromkeys(one.reason for one in rejected if (one.kind, one.name) == (kind, name))
    if refusals:
        return FailedPrecondition(
            f"{kind} driver {name!r} cannot be used: it {'; it '.join(refusals)}",
            hint="install another version, or uninstall what is in the way, with pip",
        )
    overview = _overview(kind, drivers, rejected, root)
    if not drivers:
        how = "pip install plugrun brings the usual ones; in a checkout: uv sync, or pip install ./core ./plugins/*"
        return NotFound(f"no {kind} driver is installed", hint=f"{how}{'; ' if overview else ''}{overview}")
    return NotFound(f"no {kind} driver {name!r} is installed", hint=overview)


def _overview(kind: str, drivers: Mapping[str, Declared[D]], rejected: Iterable[Rejected], root: Path) -> str:
    """List what is installed in one line, each unusable one with its reason."""
    usable, others = [], []
    for name, declared in sorted(drivers.items()):
        reason = finding(kind, declared, root)
        usable += [name] if reason is None else []
        others += [] if reason is None else [f"{name} (not usable: {reason})"]
    others += [str(one) for one in rejected if one.kind in {kind, ""}]
    return "; ".join([f"installed: {', '.join(usable)}"] * bool(usable) + others)


def _others(kind: str, name: str, drivers: Mapping[str, Declared[D]]) -> str | None:
    names = ", ".join(sorted(set(drivers) - {name}))
    return f"other {kind} drivers installed: {names}" if names else None


def _check_options(label: str, spec: DriverSpec[Any], options: Mapping[str, str]) -> object:
    if spec.options is None:
        if options:
            raise InvalidArgument(f"{label} takes no options, got {_pairs(options)}")
        return None
    from pydantic import ValidationError

    try:
        model = spec.options()
        return model.model_validate(dict(options))
    except ValidationError as error:
        known = ", ".join(sorted(model.model_fields))
        raise InvalidArgument(f"{label} {_first(error, options)}", hint=f"its options: {known or 'none'}") from error
    except Exception as error:
        raise DriverError(f"{label} cannot say which options it takes: {describe(error)}") from error


def _first(error: ValidationError, options: Mapping[str, str]) -> str:
    """Say what the first mistake is, quoting key and value."""
    mistake = error.errors()[0]
    key = str(mistake["loc"][0]) if mistake["loc"] else ""
    if mistake["type"] == "missing":
        return f"needs option {key!r}"
    if mistake["type"] == "extra_forbidden":
        return f"has no option {key!r}, got {_pairs({key: options[key]})}"
    got = {key: options[key]} if key in options else options
    return f"cannot take option {_pairs(got)}: {mistake['msg']}"


def _pairs(options: Mapping[str, str]) -> str:
    return ", ".join(repr(f"{key}={value}") for key, value in sorted(options.items()))
