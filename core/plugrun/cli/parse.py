"""Texts of options into values; each function quotes what it cannot read."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from plugrun import validate
from plugrun.container import Resources, Security
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound

T = TypeVar("T")

_MOST_TASKS = 2**22  # the kernel's PID_MAX_LIMIT

# What Docker lets through and is for a tmpfs (moby/sys/mount, flags.go; tmpfs(5)); numbers take the kernel's suffixes.
_NUMBER = r"\d{1,12}[kmgtpe]?"
_TMPFS_VALUES = {
    "size": _NUMBER + r"|\d{1,3}%",
    "mode": r"0?[0-7]{1,4}",
    "uid": r"\d{1,10}",
    "gid": r"\d{1,10}",
    "nr_inodes": _NUMBER,
    "nr_blocks": _NUMBER,
    "mpol": r"[a-z0-9:=,-]+",
}
_TMPFS_FLAGS = (
    "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync mand nomand atime noatime diratime nodiratime"
    " relatime norelatime strictatime nostrictatime"
    " tmpcopyup"  # podman's: the runtime puts into it what the image has there
)


def optional(parse: Callable[[str], T], value: str | None) -> T | None:
    """Apply ``parse`` to an option that was given."""
    return None if value is None else parse(value)


def check_text(value: object) -> None:
    """Refuse an option or argument, or a list of them, that is not UTF-8."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, str):
            validate.text(one)


def environment(files: Sequence[str], values: Sequence[str]) -> list[str]:
    """Read ``--env-file`` and ``--env``, in this order; a bare ``NAME`` takes its value from our own environment."""
    lines = [line for path in files for line in _env_file(path)]
    found = []
    for text in (*lines, *values):
        name, equals, _ = text.partition("=")
        validate.env_name(name)
        if equals:
            found.append(validate.env(text))
        elif name in os.environ:
            found.append(validate.env(f"{name}={os.environ[name]}"))
    return found


def _env_file(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError as error:
        raise NotFound(f"no such --env-file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cannot read --env-file {path}: {_reason(error)}") from error
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def labels(values: Sequence[str]) -> dict[str, str]:
    """Read ``--label key=value``; a bare key has the empty value."""
    return dict(validate.label(value) for value in values)


def driver_options(values: Sequence[str], option: str) -> dict[str, str]:
    """Read ``key=value`` options of a driver."""
    found = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"{option} {text!r} is not KEY=VALUE")
        found[key] = value
    return found


def workdir(value: str | None) -> str | None:
    """Read ``--workdir``."""
    if value is not None and not value.startswith("/"):
        raise InvalidArgument(f"the working directory {value!r} is not absolute", hint="begin it with '/'")
    return value


def tmpfs(text: str) -> tuple[str, str]:
    """Read ``--tmpfs TARGET[:OPTIONS]``.

    :raises InvalidArgument: an option is unknown, or its value makes no sense to a tmpfs.
    """
    target, _, options = text.partition(":")
    for option in filter(None, options.split(",")):
        name, equals, value = option.partition("=")
        if equals and name in _TMPFS_VALUES:
            if not re.fullmatch(_TMPFS_VALUES[name], value, re.IGNORECASE | re.ASCII):
                raise InvalidArgument(
                    f"--tmpfs {text!r}: {value!r} is no {name}", hint="write e.g. size=64m,mode=1777,uid=1000"
                )
        elif option not in _TMPFS_FLAGS.split():
            raise InvalidArgument(
                f"--tmpfs {text!r} has the unknown option {option!r}",
                hint=f"use {', '.join(f'{key}=…' for key in _TMPFS_VALUES)}, ro, exec, suid, dev, noatime, tmpcopyup",
            )
    return place(f"--tmpfs {text!r}", target), options


def place(text: str, target: str) -> str:
    """Return a place in the container, normalized.

    :param text: the option it is from, for messages, its value quoted.
    :raises InvalidArgument: it is not absolute, or the root.
    """
    if not target.startswith("/") or "\0" in target:
        raise InvalidArgument(
            f"{text}: the place in the container {target!r} is not absolute", hint="begin it with '/'"
        )
    normal = posixpath.normpath(target)
    if normal.lstrip("/") == "":
        raise InvalidArgument(f"{text}: the container's root cannot be mounted over")
    return normal


def security(options: Sequence[str], cap_add: Sequence[str], cap_drop: Sequence[str], *, privileged: bool) -> Security:
    """Read ``--security-opt`` and the capability options."""
    seccomp, no_new_privileges = "default", False
    for text in options:
        key, _, value = text.replace("=", ":", 1).partition(":")
        if key == "no-new-privileges" and value in {"", "true", "false"}:
            no_new_privileges = value != "false"
        elif key == "seccomp" and value:
            seccomp = value if value in {"unconfined", "default"} else _seccomp_file(value)
        elif key in {"apparmor", "label", "systempaths"}:
            raise InvalidArgument(f"--security-opt {text!r} is not part of this version")
        else:
            raise InvalidArgument(
                f"--security-opt {text!r} is unknown", hint="use no-new-privileges, seccomp=FILE or seccomp=unconfined"
            )
    return Security(
        privileged=privileged,
        cap_add=tuple(cap_add),
        cap_drop=tuple(cap_drop),
        no_new_privileges=no_new_privileges,
        seccomp=seccomp,
    )


def _seccomp_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise NotFound(f"no such seccomp profile: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"cannot read seccomp profile {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) else error)


def require_terminal(*, tty: bool, stdin: bool) -> None:
    """Refuse ``-it`` where there is no terminal to give, before anything is made.

    :raises FailedPrecondition: our standard input is none.
    """
    from plugrun import terminal

    if tty and stdin and not terminal.is_terminal(0):
        raise FailedPrecondition("the input device is not a terminal", hint="leave out -t, or run it from a terminal")


def stop_signal(text: str) -> str:
    """Read ``--stop-signal``; kept as the user wrote it."""
    validate.signal_number(text)
    return text


def pids(value: int | None) -> int:
    """Read ``--pids-limit``: 0 and -1 mean no limit."""
    if value is None:
        return Resources().pids
    if value > _MOST_TASKS:
        raise InvalidArgument(f"--pids-limit {value} is too large", hint=f"the kernel counts to {_MOST_TASKS} tasks")
    return value if value > 0 else -1
