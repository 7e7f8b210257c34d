"""Installed entry points, read from ``*.dist-info`` directories on ``sys.path``.

``importlib.metadata`` answers the same question, but importing it costs 40 ms here (email, zipfile, csv, tempfile) and
asking it 8 ms, in every command; this takes 2 ms. The formats are those of the PyPA specifications "Recording installed
projects" and "Entry points"; a test compares the answers of both.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

from plugrun.errors import Unavailable
from plugrun.tuples import NamedTuple


class EntryPoint(NamedTuple):
    """One entry point of one installed distribution.

    :param value: ``module`` or ``module:attribute``.
    :param dist: name of the distribution, as its metadata spells it.
    :param path: its ``.dist-info`` directory.
    """

    name: str
    value: str
    dist: str
    version: str
    path: str

    def load(self) -> object:
        """Import what the entry point names.

        :raises Unavailable: users other than the engine's owner could have put it there.
        :raises Exception: whatever the import raises.
        """
        for place in (os.path.dirname(self.path), self.path):
            if _open_to_others(place):
                raise Unavailable(f"not loaded, because {place} can be changed by other users")
        from importlib import import_module

        module, _, attributes = self.value.partition(":")
        found: object = import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


def find(group: str) -> list[EntryPoint]:
    """Return the entry points of ``group``, sorted by name, then by distribution.

    When a distribution is installed twice, the one earlier on ``sys.path`` counts, as it does for imports.
    """
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for directory in sys.path:
        if not os.path.isabs(directory):  # whoever runs the engine in another directory must not get other drivers
            continue
        for info in sorted(_dist_infos(directory)):
            name = _normalised(os.path.basename(info).partition("-")[0])
            if name not in seen:
                seen.add(name)
                found += _read(info, group)
    return sorted(found, key=lambda entry: (entry.name, entry.dist))


def _dist_infos(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory) as entries:
            yield from (entry.path for entry in entries if entry.name.endswith(".dist-info"))
    except OSError:  # not there, not a directory (a zip file), not readable: nothing is installed in it
        return


def _read(info: str, group: str) -> Iterator[EntryPoint]:
    try:
        with open(f"{info}/entry_points.txt", encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError):
        return
    if f"[{group}]" not in text:
        return
    dist, version = _identity(info)
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.partition("[")[0].strip(), dist, version, info)


def _identity(info: str) -> tuple[str, str]:
    """Return name and version as the METADATA file says, else as the directory's name does."""
    dist, _, version = os.path.basename(info).removesuffix(".dist-info").partition("-")
    try:
        with open(f"{info}/METADATA", encoding="utf-8") as stream:
            for line in stream:
                field, _, value = line.partition(":")
                if not value:  # an empty line ends the header
                    break
                if field == "Name":
                    dist = value.strip()
                elif field == "Version":
                    version = value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return dist, version


def _normalised(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _open_to_others(path: str) -> bool:
    """Whether somebody else than root, the caller, or the owner of the engine itself could change ``path``."""
    info = os.stat(path)
    owners = {0, os.geteuid(), os.stat(__file__).st_uid}
    return info.st_uid not in owners or bool(info.st_mode & stat.S_IWOTH)
