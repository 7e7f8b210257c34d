"""Layers that no honest builder makes, each with the verdict it must get, and a naive unpacker that falls for them.

``REFUSED`` means an :class:`~plugrun.errors.InvalidArgument`; ``INSIDE`` means that the layer unpacks, below the root
only. In both cases what lies outside the root stays as it was.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path

from images.layers import directory, file, hardlink, header, layer, long_name, pax, symlink, xattr
from plugrun.images.entry import EntryType
from plugrun.images.tar import read_entries

REFUSED, INSIDE = "refused", "inside"

Builder = Callable[[bytes], bytes]


def up(host: bytes) -> bytes:
    """Return a relative path that reaches the host directory from anywhere."""
    return b"../" * 30 + host.lstrip(b"/")


def named(name: bytes, member: Callable[..., bytes] = file, *arguments: bytes) -> bytes:
    """Build a member with a name of any length."""
    return pax((b"path", name)) + member(b"x", *arguments)


def linked(name: bytes, member: Callable[..., bytes], target: bytes) -> bytes:
    """Build a link with a target of any length."""
    return pax((b"linkpath", target)) + member(name, b"x")


def link_out(name: bytes, host: bytes) -> bytes:
    return linked(name, symlink, host)


def nested(depth: int) -> bytes:
    return b"".join(named(b"/".join([b"d"] * n) + b"/", directory) for n in range(400, depth, 400)) + named(
        b"/".join([b"d"] * depth), directory
    )


CASES: dict[str, tuple[str, Builder]] = {
    # Paths
    "dotdot": (REFUSED, lambda h: file(b"../host/secret", b"evil")),
    "dotdot below a directory": (REFUSED, lambda h: directory(b"a/") + file(b"a/../../host/secret", b"evil")),
    "dotdot that stays inside": (REFUSED, lambda h: directory(b"a/") + file(b"a/../b", b"")),
    "many dotdots": (REFUSED, lambda h: named(up(h) + b"/secret")),
    "dotdot directory": (REFUSED, lambda h: directory(b"../host", mode=0o777, uid=1)),
    "only dotdot": (REFUSED, lambda h: directory(b"..", mode=0o777)),
    "dotdot at the end": (REFUSED, lambda h: directory(b"a/..", mode=0o777)),
    "dotdot in a PAX path": (REFUSED, lambda h: pax((b"path", b"../host/secret")) + file(b"ok", b"evil")),
    "dotdot in a GNU name": (REFUSED, lambda h: long_name(b"../host/secret") + file(b"ok", b"evil")),
    "dotdot in the prefix": (REFUSED, lambda h: file(b"secret", b"evil", prefix=b"../host")),
    "absolute": (INSIDE, lambda h: named(h + b"/secret")),
    "absolute with two slashes": (INSIDE, lambda h: named(b"//" + h + b"//secret")),
    "NUL": (REFUSED, lambda h: named(b"ok\0/../../host/secret")),
    "name of 4,096 bytes": (INSIDE, lambda h: named(b"/" * 4095 + b"a")),
    "name of 4,097 bytes": (REFUSED, lambda h: named(b"/" * 4096 + b"a")),
    "component of 256 bytes": (REFUSED, lambda h: named(b"c" * 256)),
    "control characters": (INSIDE, lambda h: file(b"a\n\x1b]0;x\x07", b"")),
    "not UTF-8": (INSIDE, lambda h: directory(b"\xff/") + file(b"\xff/\xfe", b"")),
    "a thousand nested directories": (INSIDE, lambda h: nested(1100)),
    "a thousand nested directories, then a file": (INSIDE, lambda h: nested(1100) + file(b"d", b"")),
    # Symbolic links as parents
    "absolute link as parent": (REFUSED, lambda h: link_out(b"x", h) + file(b"x/secret", b"evil")),
    "relative link as parent": (REFUSED, lambda h: link_out(b"x", up(h)) + file(b"x/secret", b"evil")),
    "link to a link as parent": (
        REFUSED,
        lambda h: link_out(b"a", h) + symlink(b"b", b"a") + file(b"b/secret", b"evil"),
    ),
    "link through proc as parent": (
        REFUSED,
        lambda h: link_out(b"x", b"/proc/self/root" + h) + file(b"x/secret", b"evil"),
    ),
    "new file behind a link": (REFUSED, lambda h: link_out(b"x", h) + file(b"x/new", b"evil")),
    "new directories behind a link": (REFUSED, lambda h: link_out(b"x", h) + file(b"x/a/b", b"evil")),
    "link as parent of a directory": (REFUSED, lambda h: link_out(b"x", h) + directory(b"x/sub", mode=0o777)),
    "link as parent of a link": (REFUSED, lambda h: link_out(b"x", h) + symlink(b"x/l", b"t")),
    "link as parent of a FIFO": (REFUSED, lambda h: link_out(b"x", h) + header(b"x/p", b"6")),
    "link as parent of a hard link": (
        REFUSED,
        lambda h: file(b"f", b"") + link_out(b"x", h) + hardlink(b"x/secret2", b"f"),
    ),
    "link loop as parent": (REFUSED, lambda h: symlink(b"a", b"b") + symlink(b"b", b"a") + file(b"a/f", b"")),
    "link to itself as parent": (REFUSED, lambda h: symlink(b"a", b"a/a") + file(b"a/f", b"")),
    "link inside the root as parent": (
        INSIDE,
        lambda h: directory(b"run/") + symlink(b"var", b"/run") + file(b"var/f", b""),
    ),
    "link that climbs, but lands inside": (
        INSIDE,
        lambda h: directory(b"run/") + symlink(b"var", b"../../../run") + file(b"var/f", b""),
    ),
    "file as parent": (REFUSED, lambda h: file(b"f", b"") + file(b"f/x", b"")),
    "FIFO as parent": (REFUSED, lambda h: header(b"f", b"6") + file(b"f/x", b"")),
    "device as parent": (REFUSED, lambda h: header(b"f", b"3", major=1, minor=3) + file(b"f/x", b"")),
    # One name, several entries
    "file over a link": (INSIDE, lambda h: link_out(b"f", h + b"/secret") + file(b"f", b"evil")),
    "file over a dangling link": (INSIDE, lambda h: link_out(b"f", h + b"/new") + file(b"f", b"evil")),
    "directory over a link": (INSIDE, lambda h: link_out(b"d", h) + directory(b"d/", mode=0o777, uid=1)),
    "directory over a link, then a child": (
        INSIDE,
        lambda h: link_out(b"d", h) + directory(b"d/") + file(b"d/secret", b"evil"),
    ),
    "directory, link, child": (REFUSED, lambda h: directory(b"d/") + link_out(b"d", h) + file(b"d/secret", b"evil")),
    "directory with children, link, child": (
        REFUSED,
        lambda h: file(b"d/a", b"") + file(b"d/b", b"") + link_out(b"d", h) + file(b"d/secret", b"evil"),
    ),
    "link replaced while its directory is in use": (
        REFUSED,
        lambda h: (
            directory(b"d/") + symlink(b"l", b"d") + file(b"l/a", b"") + link_out(b"l", h) + file(b"l/secret", b"x")
        ),
    ),
    "file, directory, link": (
        INSIDE,
        lambda h: file(b"n", b"") + directory(b"n/") + file(b"n/c", b"") + link_out(b"n", h),
    ),
    "device over a link": (INSIDE, lambda h: link_out(b"n", h + b"/new") + header(b"n", b"3", major=1, minor=3)),
    "file over a FIFO": (INSIDE, lambda h: header(b"p", b"6") + file(b"p", b"data")),
    "file over a device": (INSIDE, lambda h: header(b"p", b"4", major=7) + file(b"p", b"data")),
    # Hard links
    "hard link to an absolute path": (REFUSED, lambda h: linked(b"l", hardlink, h + b"/secret") + file(b"l", b"evil")),
    "hard link with dotdot": (REFUSED, lambda h: hardlink(b"l", b"../host/secret")),
    "hard link through a link": (REFUSED, lambda h: link_out(b"x", h) + hardlink(b"l", b"x/secret")),
    "hard link to a link, then a file": (
        INSIDE,
        lambda h: link_out(b"s", h + b"/secret") + hardlink(b"l", b"s", mode=0o777, uid=1) + file(b"l", b"evil"),
    ),
    "hard link to a directory": (REFUSED, lambda h: directory(b"d/") + hardlink(b"l", b"d")),
    "hard link to the root": (REFUSED, lambda h: hardlink(b"l", b"/")),
    "hard link to itself": (REFUSED, lambda h: file(b"l", b"") + hardlink(b"l", b"l")),
    "hard link to nothing": (REFUSED, lambda h: hardlink(b"l", b"missing")),
    "hard link to a whiteout": (REFUSED, lambda h: file(b".wh.a", b"") + hardlink(b"b", b"a")),
    # Metadata through links
    "mode and owner of a link": (
        INSIDE,
        lambda h: pax((b"linkpath", h + b"/secret")) + symlink(b"l", b"x", mode=0o777, uid=1000, gid=1000, mtime=1),
    ),
    "attributes of a link": (
        INSIDE,
        lambda h: pax((b"linkpath", h + b"/secret"), (b"SCHILY.xattr.user.evil", b"1")) + symlink(b"l", b"x"),
    ),
    # Extended attributes
    "overlayfs attributes": (
        INSIDE,
        lambda h: (
            pax((b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"), (b"SCHILY.xattr.trusted.overlay.opaque", b"y"))
            + directory(b"d/")
        ),
    ),
    "overlayfs user attributes": (INSIDE, lambda h: xattr(b"user.overlay.opaque", b"y") + directory(b"d/")),
    "security labels": (
        INSIDE,
        lambda h: (
            pax((b"SCHILY.xattr.security.selinux", b"x"), (b"LIBARCHIVE.xattr.security.ima", b"AAAA")) + file(b"f", b"")
        ),
    ),
    "attributes of the root": (INSIDE, lambda h: xattr(b"trusted.overlay.opaque", b"y") + directory(b"./")),
    "attribute with a long name": (REFUSED, lambda h: xattr(b"user." + b"n" * 300, b"") + file(b"f", b"")),
    "attribute with a large value": (REFUSED, lambda h: xattr(b"user.n", bytes(100_000)) + file(b"f", b"")),
    "capabilities that are none": (REFUSED, lambda h: xattr(b"security.capability", b"all") + file(b"f", b"")),
    # Whiteouts
    "whiteout of the parent": (REFUSED, lambda h: directory(b"d/") + file(b"d/.wh...", b"")),
    "whiteout of the directory itself": (REFUSED, lambda h: directory(b"d/") + file(b"d/.wh..", b"")),
    "whiteout of nothing": (REFUSED, lambda h: file(b".wh.", b"")),
    "whiteout with a slash": (REFUSED, lambda h: file(b".wh.../host/secret", b"")),
    "whiteout through a link": (REFUSED, lambda h: link_out(b"x", h) + file(b"x/.wh.secret", b"")),
    "whiteout of a link": (INSIDE, lambda h: link_out(b"x", h) + file(b".wh.x", b"")),
    "whiteout with data": (REFUSED, lambda h: file(b".wh.a", b"data")),
    "whiteout that is a link": (REFUSED, lambda h: symlink(b".wh.a", b"t")),
    "whiteout that is a directory": (REFUSED, lambda h: directory(b".wh.a")),
    "whiteout as a parent": (REFUSED, lambda h: file(b".wh.a/f", b"")),
    "whiteout of aufs": (REFUSED, lambda h: directory(b".wh..wh.plnk")),
    "whiteout of a whiteout": (REFUSED, lambda h: file(b".wh..wh.a", b"")),
    "opaque mark through a link": (REFUSED, lambda h: link_out(b"x", h) + file(b"x/.wh..wh..opq", b"")),
    "forged whiteout": (REFUSED, lambda h: header(b"shadow", b"3")),
    # The root itself
    "root is a link": (REFUSED, lambda h: symlink(b"./", h[:99]) + file(b"secret", b"evil")),
    "root is a file": (REFUSED, lambda h: file(b".", b"")),
    "root is a hard link": (REFUSED, lambda h: file(b"f", b"") + hardlink(b"/", b"f")),
    "root is a whiteout": (REFUSED, lambda h: directory(b"./") + file(b"./.wh..", b"")),
    "root open to all": (INSIDE, lambda h: directory(b"./", mode=0o7777)),
    # Devices
    "device number beyond the kernel's": (REFUSED, lambda h: header(b"n", b"4", major=4096)),
    "negative device number": (REFUSED, lambda h: header(b"n", b"3", major=-1)),
    # The archive
    "link target of 4,096 bytes": (REFUSED, lambda h: link_out(b"l", b"t" * 4096)),
    "truncated": (REFUSED, lambda h: file(b"f", b"x", size=10_000)),
    "negative size": (REFUSED, lambda h: header(b"f", size=-1)),
    "directory with data": (REFUSED, lambda h: header(b"d", b"5", size=512)),
    "1 TiB with holes": (
        REFUSED,
        lambda h: pax((b"GNU.sparse.size", b"%d" % (1 << 40)), (b"GNU.sparse.map", b"0,0")) + file(b"f", b""),
    ),
    "1 GiB PAX header": (REFUSED, lambda h: header(b"x", b"x", size=1 << 30)),
}


def build(name: str, host: Path) -> bytes:
    return layer(CASES[name][1](os.fsencode(host)))


def unpack_naively(data: bytes, root: Path) -> None:
    """Do what a first draft would: join paths, follow links, trust whiteouts. Never use outside a test."""
    for entry in read_entries(io.BytesIO(data)):
        with contextlib.suppress(OSError, ValueError):
            _naive_entry(entry, os.fsencode(root))


def _naive_entry(entry, root: bytes) -> None:
    path = root + b"/" + entry.name
    parent, leaf = os.path.split(path.rstrip(b"/"))
    os.makedirs(parent, exist_ok=True)
    if leaf.startswith(b".wh."):
        os.unlink(os.path.join(parent, leaf[4:]))
        return
    match entry.type:
        case EntryType.DIRECTORY:
            os.makedirs(path, exist_ok=True)
        case EntryType.SYMLINK:
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(path)
            os.symlink(entry.linkname, path)
            return  # what follows would change its target, which may be the host's /run
        case EntryType.HARDLINK:
            os.link(os.path.join(root, entry.linkname), path)
        case EntryType.REGULAR:
            with open(path, "wb") as out:
                out.write(b"".join(chunk for _, chunk in entry.chunks()))
        case _:
            return
    os.chown(path, entry.uid, entry.gid)
    os.chmod(path, entry.mode)
    for name, value in entry.xattrs.items():
        os.setxattr(path, name, value)
