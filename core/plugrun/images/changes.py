"""Changes to an image's configuration, written as Dockerfile instructions: ``--change 'CMD ["sh"]'``."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from typing import TYPE_CHECKING, Any

from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?")


def apply(config: dict[str, Any], instruction: str) -> None:
    """Change the ``config`` object of an image configuration by one instruction.

    :raises InvalidArgument: it is none, not one of those allowed here, or malformed.
    """
    name, _, rest = instruction.strip().partition(" ")
    change, rest = _CHANGES.get(name.upper()), rest.strip()
    if change is None:
        raise InvalidArgument(
            f"the change {instruction!a} begins with no instruction known here", hint=f"use {', '.join(_CHANGES)}"
        )
    if not rest or "\0" in rest:
        raise InvalidArgument(f"the change {instruction!a} has no value")
    change(config, rest)


def _cmd(config: dict[str, Any], value: str) -> None:
    config["Cmd"] = _command(value)


def _entrypoint(config: dict[str, Any], value: str) -> None:
    config["Entrypoint"] = _command(value)


def _command(value: str) -> list[str]:
    """Read the exec form, a JSON list; anything else is the shell form."""
    if value.startswith("["):
        try:
            words = json.loads(value)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return [*_SHELL, value]


def _env(config: dict[str, Any], value: str) -> None:
    env = {entry.partition("=")[0]: entry for entry in config.get("Env", ())}
    env.update({key: f"{key}={text}" for key, text in _pairs("ENV", value).items()})
    config["Env"] = list(env.values())


def _label(config: dict[str, Any], value: str) -> None:
    config["Labels"] = config.get("Labels", {}) | _pairs("LABEL", value)


def _expose(config: dict[str, Any], value: str) -> None:
    ports = config.setdefault("ExposedPorts", {})
    for word in value.split():
        match = _PORT.fullmatch(word.lower())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 0 < first <= last <= 65535:
            raise InvalidArgument(f"EXPOSE {word!a} is not a port, port/protocol or range of ports")
        ports.update({f"{port}/{match[3] or 'tcp'}": {} for port in range(first, last + 1)})


def _user(config: dict[str, Any], value: str) -> None:
    config["User"] = value


def _volume(config: dict[str, Any], value: str) -> None:
    words = _command(value) if value.startswith("[") else _words("VOLUME", value)
    config.setdefault("Volumes", {}).update({word: {} for word in words})


def _workdir(config: dict[str, Any], value: str) -> None:
    (path,) = _words("WORKDIR", value)[:1] or ("/",)
    joined = posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", path))
    config["WorkingDir"] = "/" + joined.lstrip("/")


def _stopsignal(config: dict[str, Any], value: str) -> None:
    if not value.isalnum() and not re.fullmatch(r"(?i)(SIG)?RTM(IN\+|AX-)\d+", value):
        raise InvalidArgument(f"STOPSIGNAL {value!a} is not a signal")
    config["StopSignal"] = value


def _pairs(name: str, value: str) -> dict[str, str]:
    """Read ``key=value…``, or for one pair ``key value``."""
    words = _words(name, value)
    if "=" not in words[0]:
        key, _, text = value.partition(" ")
        words = [f"{key}={text.strip()}"] if text.strip() else []
    if not words or not all("=" in word and not word.startswith("=") for word in words):
        raise InvalidArgument(f"{name} {value!a} is not key=value")
    return dict(word.split("=", 1) for word in words)


def _words(name: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise InvalidArgument(f"{name} {value!a} cannot be read: {error}") from None


_CHANGES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
