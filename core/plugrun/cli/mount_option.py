"""``--mount type=bind,source=/here,target=/there,readonly``: Docker's keys, as one line of CSV.

Source: https://docs.docker.com/reference/cli/docker/container/run/#mount.
"""

from __future__ import annotations

import csv
import difflib
import os
import posixpath
from collections.abc import Mapping

from plugrun import validate, volumes
from plugrun.cli import parse as parsing
from plugrun.cli.file_options import PROPAGATION, HostPath, Tmpfs, Wanted
from plugrun.container import BindMount, ImageMount, VolumeMount
from plugrun.errors import InvalidArgument, NotFound, Unavailable
from plugrun.oci.mounts import recursive_read_only
from plugrun.request import VolumeRequest

_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_COMMON = {"type", "source", "target", "readonly", "consistency"}
_OWN = {
    "bind": {"bind-propagation", "bind-recursive", "bind-nonrecursive", "bind-create-src"},
    "volume": {"volume-nocopy", "volume-subpath", "volume-driver", "volume-opt", "volume-label"},
    "tmpfs": {"tmpfs-size", "tmpfs-mode"},
    "image": {"image-subpath"},
}
_FLAGS = {"readonly", "volume-nocopy", "bind-nonrecursive", "bind-create-src"}
_SEVERAL = {"volume-opt", "volume-label"}
_RECURSIVE = ("enabled", "disabled", "writable", "readonly")
_MANNER = "write KEY=VALUE,…, such as type=bind,source=/HOST,target=/PLACE"
_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def parse(text: str) -> Wanted:
    """Read one ``--mount``.

    :raises InvalidArgument: a key is unknown or of another type, a value makes no sense, or a key is missing.
    :raises NotFound: the source of a bind does not exist.
    :raises Unavailable: the kernel cannot do what is asked for.
    """
    return _Mount(text).read()


class _Mount:
    """The keys and values of one option.

    :ivar text: the option, for messages.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._values: dict[str, str] = {}
        self._lists: dict[str, dict[str, str]] = {name: {} for name in _SEVERAL}
        for field in self._fields():
            self._take(field)

    def read(self) -> Wanted:
        kind = self._values.get("type", "volume")
        if kind not in _OWN:
            raise self._wrong(f"has the unknown type {kind!r}", _near(kind, _OWN) or f"use {', '.join(_OWN)}")
        for name in [*self._values, *(name for name, found in self._lists.items() if found)]:
            if name not in _COMMON | _OWN[kind]:
                raise self._wrong(f"has {name!r}, which is not for type={kind}", "leave it out, or give its own type")
        if "target" not in self._values:
            raise self._wrong("has no target", "add target=/PLACE/IN/THE/CONTAINER")
        made: Wanted = getattr(self, f"_{kind}")(parsing.place(f"--mount {self.text!r}", self._values["target"]))
        return made

    def _bind(self, place: str) -> Wanted:
        source = self._source()
        if not source.startswith(("/", ".", "~")):
            raise self._wrong(f"has the relative source {source!r}", f"write ./{source}, or type=volume for a volume")
        real = os.path.realpath(os.path.expanduser(source))
        make = self._flag("bind-create-src") and not os.path.exists(real)
        if not make and not os.path.exists(real):
            raise NotFound(
                f"--mount {self.text!r}: there is no {real} on this host", hint="make it first, or add bind-create-src"
            )
        propagation = self._one_of("bind-propagation", PROPAGATION, "rprivate")
        return HostPath(BindMount(real, place, self._flag("readonly"), propagation, self._recursive(propagation)), make)

    def _recursive(self, propagation: str) -> str:
        chosen = self._one_of("bind-recursive", _RECURSIVE, "enabled")
        if self._flag("bind-nonrecursive"):
            if "bind-recursive" in self._values and chosen != "disabled":
                raise self._wrong(f"has both bind-nonrecursive and bind-recursive={chosen}", "leave one of them out")
            return "disabled"
        if chosen in {"writable", "readonly"} and not self._flag("readonly"):
            raise self._wrong(f"has bind-recursive={chosen} without readonly", "add readonly")
        if chosen == "readonly" and propagation != "rprivate":
            raise self._wrong(f"has bind-recursive=readonly with bind-propagation={propagation}", "use rprivate")
        if chosen == "readonly" and not recursive_read_only():
            raise Unavailable(f"--mount {self.text!r}: this kernel has no mount_setattr(2)", hint="it needs Linux 5.12")
        return chosen

    def _volume(self, place: str) -> Wanted:
        name = self._values.get("source", "")
        if name:
            volumes.check_name(name)
        mount = VolumeMount(
            name, place, self._flag("readonly"), self._subpath("volume-subpath"), self._flag("volume-nocopy")
        )
        if mount.subpath and not name:
            raise self._wrong("has a subpath in a volume without a name", "name it: source=NAME")
        return VolumeRequest(
            mount, self._values.get("volume-driver"), self._lists["volume-opt"], self._lists["volume-label"]
        )

    def _tmpfs(self, place: str) -> Wanted:
        if "source" in self._values:
            raise self._wrong("has a source, and a tmpfs has none", "leave it out")
        options = ["ro"] if self._flag("readonly") else []
        if "tmpfs-size" in self._values:
            options.append(f"size={validate.size(self._values['tmpfs-size'])}")
        if "tmpfs-mode" in self._values:
            options.append(f"mode={self._mode(self._values['tmpfs-mode'])}")
        return Tmpfs(place, ",".join(options))

    def _image(self, place: str) -> Wanted:
        if "readonly" in self._values and not self._flag("readonly"):
            raise self._wrong("asks for an image that can be written", "images are mounted read-only")
        return ImageMount(self._source(), "", place, self._subpath("image-subpath"))

    # --- Values -----------------------------------------------------------------------------------------------------

    def _fields(self) -> list[str]:
        try:
            return next(csv.reader([self.text], strict=True), [])
        except csv.Error as error:
            raise self._wrong(
                f"is not comma-separated: {error}", 'write "KEY=VALUE" in quotes if it has a comma'
            ) from None

    def _take(self, field: str) -> None:
        name, equals, value = field.partition("=")
        name = _ALIASES.get(name.lower(), name.lower())
        known = _COMMON.union(*_OWN.values())
        if name not in known:
            raise self._wrong(f"has the unknown key {name!r}", _near(name, known | set(_ALIASES)) or _MANNER)
        if not equals and name not in _FLAGS:
            raise self._wrong(f"has {name!r} without a value", f"write {name}=VALUE")
        if equals and not value and name != "volume-label":
            raise self._wrong(f"has an empty {name!r}", "leave it out, or give it a value")
        if name in _SEVERAL:
            self._lists[name] |= (
                parsing.labels([value]) if name == "volume-label" else parsing.driver_options([value], name)
            )
        elif name in self._values:
            raise self._wrong(f"has {name!r} twice", "leave one of them out")
        else:
            self._values[name] = value if equals else "true"

    def _source(self) -> str:
        if "source" not in self._values:
            raise self._wrong("has no source", "add source=…")
        return self._values["source"]

    def _flag(self, name: str) -> bool:
        value = self._values.get(name, "false")
        if value.lower() not in _TRUTH:
            raise self._wrong(f"has {name}={value}, neither true nor false", f"write {name} alone, or {name}=true")
        return _TRUTH[value.lower()]

    def _one_of(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self._values.get(name, default)
        if value not in choices:
            raise self._wrong(f"has the unknown {name}={value}", f"use {', '.join(choices)}")
        return value

    def _subpath(self, name: str) -> str:
        value = self._values.get(name, "")
        if value.startswith("/") or ".." in value.split("/"):
            raise self._wrong(f"has {name}={value}, which leads out", "give a path relative to its root, without '..'")
        return "" if not value or posixpath.normpath(value) == "." else posixpath.normpath(value)

    def _mode(self, value: str) -> str:
        if not (value.isascii() and value.isdecimal() and len(value) <= 5 and not set(value) & set("89")):
            raise self._wrong(f"has tmpfs-mode={value}, which is no octal number", "write e.g. 1777")
        if int(value, 8) > 0o7777:
            raise self._wrong(f"has tmpfs-mode={value}, which is too large", "7777 is the most")
        return value

    def _wrong(self, message: str, hint: str) -> InvalidArgument:
        return InvalidArgument(f"--mount {self.text!r} {message}", hint=hint)


def _near(word: str, words: Mapping[str, object] | set[str]) -> str:
    found = difflib.get_close_matches(word, sorted(words), 1)
    return f"did you mean {found[0]}?" if found else ""
