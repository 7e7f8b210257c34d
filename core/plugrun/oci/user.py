"""Who the container's process is, from ``USER`` or ``--user`` and the image's own passwd and group files.

The files are a stranger's: they are opened inside the root file system only, must be regular and small, and are read as
bytes, line by line; the host's name service is never asked (CVE-2024-9676, CVE-2019-14271).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.rootfd import RootDir

_LARGEST_FILE = 1 << 20  # bytes
_MOST_LINES = 10_000  # hence fewer groups than setgroups(2) takes
_LARGEST_ID = 2**31 - 1


class Identity(NamedTuple):
    """A resolved user.

    :param additional_gids: the primary group among them, so that "not in the group" cannot be had by dropping it
        (CVE-2022-36109).
    :param home: absolute path.
    :param name: ``""`` if the image knows no name for the number.
    """

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str
    name: str


class _User(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def resolve(root: RootDir, user: str) -> Identity:
    """Resolve ``user[:group]``, names or numbers; ``""`` is root.

    Digits are always a number, never looked up as a name (CVE-2024-40635, CVE-2026-46680).

    :raises InvalidArgument: no such user or group, a number out of range, or unusable passwd or group files.
    """
    wanted, colon, wanted_group = user.partition(":")
    if colon and not (wanted and wanted_group):
        raise InvalidArgument(f"{user!r} is not USER or USER:GROUP")
    found = _find_user(root, wanted or "0")
    gid = _find_group(root, wanted_group) if wanted_group else found.gid
    # A group that is named replaces the user's memberships, as in Docker.
    more = () if wanted_group or not found.name else _memberships(root, found.name)
    gids = tuple(dict.fromkeys((gid, *more)))
    return Identity(found.uid, gid, gids, found.home, found.name)


def _find_user(root: RootDir, wanted: str) -> _User:
    number = _number(wanted, "user")
    for one in _users(root):
        if one.uid == number if number is not None else one.name == wanted:
            return one
    if number is None:
        raise InvalidArgument(
            f"the image has no user {wanted!r} in its /etc/passwd", hint="give a number, or a user it has"
        )
    return _User("", number, 0, "/")


def _find_group(root: RootDir, wanted: str) -> int:
    number = _number(wanted, "group")
    if number is not None:
        return number
    for name, gid, _ in _groups(root):
        if name == wanted:
            return gid
    raise InvalidArgument(
        f"the image has no group {wanted!r} in its /etc/group", hint="give a number, or a group it has"
    )


def _memberships(root: RootDir, name: str) -> tuple[int, ...]:
    return tuple(gid for _, gid, members in _groups(root) if name in members)


def _number(text: str, what: str) -> int | None:
    """Return the number that ``text`` is, ``None`` if it is a name; what only looks like a number is neither."""
    if text.isascii() and text.isdecimal():
        if not _is_id(text):
            raise InvalidArgument(f"{what} number {text:.20} is out of range", hint=f"the largest is {_LARGEST_ID}")
        return int(text)
    if text[0].isdigit() or text[0] in "+-" or " " in text:
        raise InvalidArgument(f"{what} {text!r} is neither a name nor a number")
    return None


def _users(root: RootDir) -> Iterator[_User]:
    for fields in _records(root, "/etc/passwd", 7):
        name, _, uid, gid, _, home, _ = fields
        if _is_id(uid) and _is_id(gid):
            yield _User(name, int(uid), int(gid), home if home.startswith("/") else "/")


def _groups(root: RootDir) -> Iterator[tuple[str, int, list[str]]]:
    for name, _, gid, members in _records(root, "/etc/group", 4):
        if _is_id(gid):
            yield name, int(gid), members.split(",")


def _is_id(text: str) -> bool:
    # The length first: int() itself refuses thousands of digits, with an error of its own.
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= _LARGEST_ID


def _records(root: RootDir, path: str, width: int) -> Iterator[list[str]]:
    """Yield the well-formed lines of a passwd(5) or group(5) file, split at colons."""
    content = root.read_regular(path, limit=_LARGEST_FILE) or b""
    if content.count(b"\n") > _MOST_LINES:
        raise InvalidArgument(f"the image's {path} has more than {_MOST_LINES} lines")
    for line in content.split(b"\n"):
        text = line.decode("utf-8", "replace")
        fields = text.split(":")
        if len(fields) == width and text.isprintable():
            yield fields
