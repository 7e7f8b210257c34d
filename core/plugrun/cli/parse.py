"""Texts of options into values; each function quotes what it cannot read."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from typing import TypeVar

from plugrun import validate
from plugrun.container import BindMount, Resources, Security
from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound

T = TypeVar("T")

_PROPAGATION = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_MOST_TASKS = 2**22  # the kernel's PID_MAX_LIMIT
_IGNORED_MODES = {"z", "Z", "nocopy", "consistent", "cached", "delegated"}  # SELinux relabelling, and Docker Desktop's


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


def volume(text: str) -> BindMount:
    """Read ``--volume SOURCE:TARGET[:OPTIONS]``.

    :raises NotFound: the source does not exist.
    """
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts):
        raise InvalidArgument(f"--volume {text!r} is not SOURCE:TARGET or SOURCE:TARGET:OPTIONS")
    source, target, *modes = parts
    if not source.startswith(("/", ".", "~")):
        raise InvalidArgument(
            f"--volume {text!r} names the volume {source!r}, and named volumes are not part of this version",
            hint=f"bind a host directory: ./{source}:{target}",
        )
    real = os.path.realpath(os.path.expanduser(source))
    if not os.path.exists(real):
        raise NotFound(f"--volume {text!r}: there is no {real} on this host", hint="make it first")
    read_only, propagation = _modes(text, modes[0].split(",") if modes else [])
    return BindMount(source=real, destination=_target(text, target), read_only=read_only, propagation=propagation)


def _modes(text: str, modes: Sequence[str]) -> tuple[bool, str]:
    read_only, propagation = False, "rprivate"
    for mode in modes:
        if mode in _PROPAGATION:
            propagation = mode
        elif mode in {"ro", "rw"}:
            read_only = mode == "ro"
        elif mode not in _IGNORED_MODES:
            raise InvalidArgument(
                f"--volume {text!r} has the unknown option {mode!r}", hint="use ro, rw or a propagation"
            )
    return read_only, propagation


def tmpfs(text: str) -> tuple[str, str]:
    """Read ``--tmpfs TARGET[:OPTIONS]``."""
    target, _, options = text.partition(":")
    return _target(text, target), options


def _target(text: str, target: str) -> str:
    if not target.startswith("/") or "\0" in target:
        raise InvalidArgument(
            f"{text!r}: the place in the container {target!r} is not absolute", hint="begin it with '/'"
        )
    normal = posixpath.normpath(target)
    if normal.lstrip("/") == "":
        raise InvalidArgument(f"{text!r}: the container's root cannot be mounted over")
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
