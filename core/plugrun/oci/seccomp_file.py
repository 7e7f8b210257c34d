"""A user's own seccomp profile, in Docker's format or the OCI's, resolved for one container.

The two formats share the rules. Docker's adds conditions on a rule (``includes``, ``excludes``: capabilities,
architectures, kernel) and ``archMap``, which lists for each architecture the others that its machines execute
(docs.docker.com/engine/security/seccomp; runtime-spec config-linux.md, "Seccomp").
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from plugrun.errors import InvalidArgument
from plugrun.oci import seccomp_policy as policy

_HINT = 'the format is Docker\'s: {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": [...], "action": ...}]}'
_ACTIONS = frozenset(
    f"SCMP_ACT_{name}" for name in ("ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP")
)
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in ("EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"))
_FLAGS = frozenset(f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"))
_MAX_ERRNO = 4095  # MAX_ERRNO of the kernel's err.h


@dataclass(frozen=True, slots=True)
class Machine:
    """What the conditions of a profile are tested against.

    :param architecture: the name of Docker's profiles, e.g. ``amd64``.
    :param native: libseccomp's name, e.g. ``SCMP_ARCH_X86_64``.
    :param kernel: major and minor version.
    """

    architecture: str
    native: str
    kernel: tuple[int, int]
    capabilities: Collection[str]


def resolve(text: str, capabilities: Collection[str], machine: Machine | None = None) -> dict[str, Any]:
    """Return the ``linux.seccomp`` object that a profile means here.

    :param machine: another machine than this one, with its capabilities.
    :raises InvalidArgument: not JSON, not a profile, or values no runtime knows; the message says where.
    """
    here = machine or _this_machine(capabilities)
    document = _object(_decode(text), "the profile")
    resolved: dict[str, Any] = {"defaultAction": _action(document.get("defaultAction"), "defaultAction")}
    if (number := _errno(document, "defaultErrnoRet", "defaultErrno", "")) is not None:
        resolved["defaultErrnoRet"] = number
    if architectures := _architectures(document, here):
        resolved["architectures"] = architectures
    if flags := _names(document.get("flags"), "flags", _FLAGS):
        resolved["flags"] = flags
    resolved["syscalls"] = [
        rule
        for position, entry in enumerate(_list(document.get("syscalls"), "syscalls"))
        if (rule := _rule(entry, f"syscalls[{position}]", here)) is not None
    ]
    return resolved


def _this_machine(capabilities: Collection[str]) -> Machine:
    system = os.uname()
    architecture, accepted = policy.MACHINES.get(system.machine, (system.machine, ("",)))
    return Machine(architecture, accepted[0], _version(system.release, "the kernel's release"), capabilities)


def _decode(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from error


def _rule(entry: object, where: str, here: Machine) -> dict[str, Any] | None:
    """Return one rule without its conditions, or ``None`` where they do not hold."""
    given = _object(entry, where)
    names = _names(given.get("names"), f"{where}.names")
    if (single := given.get("name")) is not None:
        if names:
            raise _invalid(f"{where} has both name and names")
        names = _names([single], f"{where}.name")
    if not names:
        raise _invalid(f"{where} names no system call")
    rule: dict[str, Any] = {"names": names, "action": _action(given.get("action"), f"{where}.action")}
    if (number := _errno(given, "errnoRet", "errno", f"{where}.")) is not None:
        rule["errnoRet"] = number
    if arguments := _list(given.get("args"), f"{where}.args"):
        rule["args"] = [_argument(value, f"{where}.args[{index}]") for index, value in enumerate(arguments)]
    included = _includes(_object(given.get("includes") or {}, f"{where}.includes"), f"{where}.includes", here)
    excluded = _excludes(_object(given.get("excludes") or {}, f"{where}.excludes"), f"{where}.excludes", here)
    return rule if included and not excluded else None


def _includes(condition: Mapping[str, Any], where: str, here: Machine) -> bool:
    """Whether every part of the condition holds: all the capabilities, one of the architectures, the kernel."""
    capabilities, architectures, kernel = _condition(condition, where)
    return (
        all(name in here.capabilities for name in capabilities)
        and (not architectures or here.architecture in architectures)
        and (kernel is None or here.kernel >= kernel)
    )


def _excludes(condition: Mapping[str, Any], where: str, here: Machine) -> bool:
    """Whether any part of the condition holds."""
    capabilities, architectures, kernel = _condition(condition, where)
    return (
        any(name in here.capabilities for name in capabilities)
        or here.architecture in architectures
        or (kernel is not None and here.kernel >= kernel)
    )


def _condition(given: Mapping[str, Any], where: str) -> tuple[list[str], list[str], tuple[int, int] | None]:
    if unknown := sorted(set(given) - {"caps", "arches", "minKernel"}):
        raise _invalid(f"{where}.{unknown[0]} is unknown: caps, arches or minKernel")
    kernel = given.get("minKernel")
    return (
        _names(given.get("caps"), f"{where}.caps"),
        _names(given.get("arches"), f"{where}.arches"),
        None if kernel is None else _version(kernel, f"{where}.minKernel"),
    )


def _architectures(document: Mapping[str, Any], here: Machine) -> list[str]:
    listed = _names(document.get("architectures"), "architectures")
    mapped = _list(document.get("archMap"), "archMap")
    if listed and mapped:
        raise _invalid("it has both architectures and archMap")
    for position, entry in enumerate(mapped):
        where = f"archMap[{position}]"
        given = _object(entry, where)
        if given.get("architecture") == here.native:
            return [here.native, *_names(given.get("subArchitectures"), f"{where}.subArchitectures")]
    return listed


def _argument(value: object, where: str) -> dict[str, Any]:
    given = _object(value, where)
    operator = given.get("op")
    if not isinstance(operator, str) or operator not in _OPERATORS:
        raise _invalid(f"{where}.op {operator!r} is unknown")
    return {
        "index": _number(given.get("index"), f"{where}.index", 5),
        "value": _number(given.get("value"), f"{where}.value", 2**64 - 1),
        "valueTwo": _number(given.get("valueTwo", 0), f"{where}.valueTwo", 2**64 - 1),
        "op": operator,
    }


def _errno(given: Mapping[str, Any], number: str, name: str, where: str) -> int | None:
    """Read an errno by number, or by name as Podman's profiles also have it."""
    if given.get(number) is not None:
        return _number(given[number], f"{where}{number}", _MAX_ERRNO)
    symbol = given.get(name)
    if symbol is None or symbol == "":
        return None
    value = getattr(errno, symbol, None) if isinstance(symbol, str) and symbol.startswith("E") else None
    if not isinstance(value, int):
        raise _invalid(f"{where}{name} {symbol!r} is no errno")
    return value


def _action(value: object, where: str) -> str:
    if not isinstance(value, str) or value not in _ACTIONS:
        raise _invalid(f"{where} {value!r} is not one of {', '.join(sorted(_ACTIONS))}")
    return value


def _version(value: object, where: str) -> tuple[int, int]:
    """Read ``4.8``, or the first two numbers of ``6.1.0-18-amd64``."""
    major, _, rest = (value if isinstance(value, str) else "").partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        raise _invalid(f"{where} {value!r} is no version such as 4.8")
    return int(major), int(minor)


def _number(value: object, where: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _invalid(f"{where} {value!r} is no number from 0 to {most}")
    return value


def _names(value: object, where: str, known: Collection[str] | None = None) -> list[str]:
    names = _list(value, where)
    for name in names:
        if not isinstance(name, str) or not name or (known is not None and name not in known):
            raise _invalid(f"{where} has {name!r}")
    return names


def _list(value: object, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(f"{where} is no list")
    return value


def _object(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _invalid(f"{where} is no object")
    return value


def _invalid(what: str) -> InvalidArgument:
    return InvalidArgument(f"seccomp profile: {what}", hint=_HINT)
