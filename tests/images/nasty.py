"""Layers with everything that an honest image may hold and that is easily got wrong."""

from __future__ import annotations

from images.layers import directory, file, hardlink, header, layer, long_name, pax, symlink, xattr
from images.sparse_files import sparse_0_0, sparse_0_1, sparse_1_0

NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # struct vfs_cap_data: cap_net_raw+ep
OTHER_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep
# Sparse files: size, segments, data. As GNU tar does, an empty segment marks where a hole at the end ends.
PIECES = (2 << 20, [(4096, 4096), (1 << 20, 8192), (2 << 20, 0)], b"1" * 4096 + b"2" * 8192)
SCATTERED = (3 << 20, [*((n << 17, 512) for n in range(24)), (3 << 20, 0)], b"x" * 512 * 24)
HOLE = (1 << 20, [(1 << 20, 0)], b"")
COMPONENT = b"c" * 255
DEEP = [b"names/" + b"/".join([b"deep" * 20] * depth) for depth in range(1, 13)]


def at(time: bytes) -> bytes:
    return pax((b"mtime", time))


def whiteout(name: bytes) -> bytes:
    above, slash, leaf = name.rpartition(b"/")
    return file(above + slash + b".wh." + leaf)


def opaque(name: bytes) -> bytes:
    return file(name + b"/.wh..wh..opq")


def link_groups() -> bytes:
    """Hard links across directories, of every kind of file that can have them."""
    return layer(
        directory(b"a/", mtime=1_100_000_000),
        directory(b"b/", mtime=1_200_000_000),
        directory(b"b/c/", mtime=1_300_000_000),
        file(b"a/original", b"several names", uid=7, mode=0o640),
        hardlink(b"b/same", b"a/original"),
        hardlink(b"b/c/same", b"b/same"),
        symlink(b"a/symlink", b"original"),
        hardlink(b"b/symlink", b"a/symlink"),
        header(b"a/fifo", b"6", mode=0o622),
        hardlink(b"b/fifo", b"a/fifo"),
        file(b"a/twin", b"equal, and yet another file"),
        file(b"b/twin", b"equal, and yet another file"),
        xattr(b"user.shared", b"yes") + file(b"a/attributed", b""),
        hardlink(b"b/attributed", b"./a/attributed"),
    )


def metadata() -> bytes:
    """Permissions, owners, times, attributes and devices."""
    many = [pax(*((b"SCHILY.xattr.user.%d" % n, b"%d" % n) for n in range(20))) + file(b"meta/many", b"")]
    return layer(
        directory(b"./", mode=0o755, mtime=1_600_000_000),
        directory(b"meta/", mode=0o3777, uid=1, gid=2),
        file(b"meta/setuid", b"#!", mode=0o4755),
        file(b"meta/setgid-of-another", b"#!", mode=0o6711, uid=1000, gid=1001),
        file(b"meta/unreadable", b"secret", mode=0),
        file(b"meta/sticky", mode=0o7777),
        directory(b"meta/closed/", mode=0o000),
        directory(b"meta/tmp/", mode=0o1777),
        file(b"meta/large-ids", uid=4_294_967_294, gid=2_147_483_648),
        pax((b"uid", b"4000000000"), (b"gid", b"65534")) + file(b"meta/large-ids-of-pax"),
        symlink(b"meta/link", b"/absolute/and/missing", uid=99, gid=98, mtime=5),
        xattr(b"security.capability", NET_RAW) + file(b"meta/capable", b"ping", mode=0o755, uid=3),
        xattr(b"user.binary", b"\0\n=\xff") + file(b"meta/binary"),
        xattr(b"user.empty", b"") + file(b"meta/empty-value"),
        xattr("user.größe".encode(), "groß".encode()) + directory(b"meta/attributed/"),
        *many,
        at(b"1234567890.123456789") + file(b"meta/nanoseconds"),
        at(b"1234567890.5") + directory(b"meta/half-a-second/"),
        at(b"0.000000001") + symlink(b"meta/early-link", b"x"),
        at(b"-1.25") + file(b"meta/before-1970"),
        at(b"5000000000.75") + file(b"meta/after-2106"),
        file(b"meta/epoch", mtime=0),
        header(b"meta/null", b"3", mode=0o666, major=1, minor=3),
        header(b"meta/large-minor", b"4", mode=0o660, gid=6, major=259, minor=1_048_575),
        header(b"meta/large-major", b"3", major=4095, minor=256),
        at(b"1000000000.1") + header(b"meta/fifo", b"6", mode=0o4620, uid=5),
    )


def names() -> bytes:
    """Names of every length and spelling."""
    texts = ["ünïcode", "u\u0308", "\u00fc", "日本語", "🐋", "\u202eltr"]
    raw = [b"\xff\xfe", b"latin\xe9", b"new\nline", b"back\\slash", b"-rf", b" ", b"\x01"]
    raw += [b"...", b".whale", b"a.wh.b", b"*?[x]"]
    return layer(
        directory(b"names/"),
        *(file(b"names/" + text.encode(), text.encode()) for text in texts),
        *(file(b"names/" + name, name) for name in raw),
        directory(b"names/\xe9dir/"),
        file(b"names/\xe9dir/\xe9", b""),
        symlink(b"names/to-latin", b"latin\xe9"),
        file(b"names/" + b"f" * 94, b"100 bytes"),
        directory(b"names/prefix/"),
        header(b"end", prefix=b"names/prefix"),
        long_name(b"names/" + COMPONENT) + file(b"short", b"GNU"),
        long_name(b"names/\xff" + COMPONENT[1:]) + file(b"short", b"GNU, no UTF-8"),
        *(pax((b"path", path + b"/")) + directory(b"short/") for path in DEEP),
        pax((b"path", DEEP[-1] + b"/leaf")) + file(b"short", b"PAX"),
        long_name(DEEP[-1] + b"/leaf", b"K") + hardlink(b"names/short-of-long", b"cut"),
        long_name(b"t/" * 600, b"K") + symlink(b"names/far", b"cut"),
        pax((b"linkpath", b"p/" * 600)) + symlink(b"names/far-of-pax", b"cut"),
        directory(b"implied/"),
        file(b"implied/no-entry/x", b"in a directory without an entry of its own"),
    )


def sparse() -> bytes:
    """Files with holes; an empty one; one that is all hole."""
    builders = {b"1.0": sparse_1_0, b"0.1": sparse_0_1, b"0.0": sparse_0_0}
    return layer(
        directory(b"sparse/"),
        *(build(*PIECES, b"sparse/" + name) for name, build in builders.items()),
        sparse_1_0(*SCATTERED, b"sparse/scattered"),
        sparse_1_0(*HOLE, b"sparse/hole"),
        file(b"sparse/zeros", bytes(100_000)),
        file(b"sparse/empty"),
    )


def lower() -> bytes:
    """What the layers above it change."""
    return layer(
        directory(b"gone/"),
        file(b"gone/x"),
        directory(b"kept/", mode=0o711, uid=11, mtime=1_000_000_001),
        file(b"kept/gone"),
        symlink(b"kept/gone-link", b"gone"),
        header(b"kept/gone-device", b"3", major=1, minor=5),
        file(b"kept/stays", b"stays"),
        directory(b"opaque/", mode=0o750),
        file(b"opaque/lower"),
        directory(b"opaque/sub/"),
        file(b"opaque/sub/lower"),
        directory(b"late-opaque/", mode=0o750),
        file(b"late-opaque/lower"),
        directory(b"late-opaque/sub/", mode=0o700),
        directory(b"dir-to-file/"),
        file(b"dir-to-file/x"),
        file(b"file-to-dir", b"file"),
        directory(b"dir-to-link/"),
        file(b"dir-to-link/x"),
        symlink(b"link-to-dir", b"kept"),
        header(b"fifo-to-file", b"6"),
        file(b"file-to-device", b"file"),
        directory(b"remade/"),
        file(b"remade/lower"),
        directory(b"remade-twice/"),
        file(b"remade-twice/lower"),
        directory(b"swaps/"),
        file(b"swaps/x", b"first"),
        xattr(b"user.lower", b"1") + directory(b"attributes/"),
        xattr(b"security.capability", NET_RAW) + file(b"capability", b"lower"),
        file(b"linked-1", b"linked"),
        hardlink(b"linked-2", b"linked-1"),
        hardlink(b"linked-3", b"linked-1"),
        directory(b"usr/"),
        directory(b"usr/bin/", mode=0o775, gid=50, mtime=1_000_000_002),
        symlink(b"bin", b"usr/bin"),
        file(b"usr/bin/old"),
        directory(b"changed/", mode=0o700),
        file(b"changed/inside", b"inside"),
    )


def removals() -> bytes:
    """Whiteouts of everything, also of what is not there, and directories that hide what was in them."""
    return layer(
        whiteout(b"gone"),
        whiteout(b"kept/gone"),
        whiteout(b"kept/gone-link"),
        whiteout(b"kept/gone-device"),
        whiteout(b"never-was"),
        directory(b"opaque/", mode=0o705, uid=2),
        opaque(b"opaque"),
        file(b"opaque/upper", b"upper"),
        directory(b"opaque/sub/"),
        file(b"late-opaque/upper", b"before the mark"),
        directory(b"late-opaque/sub/"),
        file(b"late-opaque/sub/upper", b"before the mark"),
        opaque(b"late-opaque"),
        directory(b"new-opaque/"),
        opaque(b"new-opaque"),
        file(b"new-opaque/x"),
        whiteout(b"linked-2"),
    )


def swaps() -> bytes:
    """Directories become files, files directories, and so on; a name is removed and made again."""
    return layer(
        file(b"dir-to-file", b"now a file"),
        directory(b"file-to-dir/", mode=0o711),
        file(b"file-to-dir/inside", b"inside"),
        symlink(b"dir-to-link", b"kept"),
        directory(b"link-to-dir/"),
        file(b"link-to-dir/inside", b"inside"),
        file(b"fifo-to-file", b"now a file"),
        header(b"file-to-device", b"4", major=7, minor=1),
        file(b"swaps", b"second"),
        xattr(b"user.upper", b"2") + directory(b"attributes/"),
        xattr(b"security.capability", OTHER_CAPABILITY) + file(b"capability", b"upper"),
        file(b"linked-1", b"no longer linked"),
        directory(b"changed/", mode=0o1750, uid=8, mtime=1_000_000_003),
        file(b"kept/added", b"without an entry for its directory"),
        whiteout(b"remade"),
        directory(b"remade/"),
        file(b"remade/upper"),
        file(b"remade-twice", b"for a moment"),
        directory(b"remade-twice/"),
        file(b"remade-twice/upper"),
        file(b"twice", b"first"),
        file(b"twice", b"second", mode=0o600),
        directory(b"twice-dir/", mode=0o700),
        file(b"twice-dir/x"),
        directory(b"twice-dir/", mode=0o755, uid=4),
    )


def swaps_back() -> bytes:
    """And once more."""
    return layer(
        directory(b"swaps/", mode=0o701),
        file(b"swaps/y", b"third"),
        file(b"file-to-dir", b"a file again"),
        directory(b"dir-to-file/"),
        file(b"dir-to-file/z"),
        file(b"gone", b"a file where a directory was"),
        whiteout(b"new-opaque"),
        directory(b"opaque-again/"),
        file(b"kept/gone-link", b"a file where a link was"),
    )


def through_links() -> bytes:
    """Entries below a name that is a link in the layers below: it stays one."""
    return layer(file(b"bin/tool", b"through a link", mode=0o755), whiteout(b"bin/old"))


EMPTY = layer()
LAYERS = [
    link_groups(),
    metadata(),
    EMPTY,
    names(),
    sparse(),
    lower(),
    removals(),
    EMPTY,
    EMPTY,
    swaps(),
    through_links(),
    swaps_back(),
]
