"""Unpacking: evil layers stay inside, honest ones come out as other programs would unpack them."""

from __future__ import annotations

import io
import os
import random
import resource
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from images import evil, layers
from images.layers import Dribble, directory, file, hardlink, header, layer, pax, snapshot, symlink, xattr
from plugrun.errors import DriverError, InvalidArgument, PlugrunError, Unavailable
from plugrun.images.unpack import DEFAULT_LIMITS, Limits, Whiteouts, unpack_layer

pytestmark = pytest.mark.root

OVERLAY, APPLY = Whiteouts.OVERLAY, Whiteouts.APPLY
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw=ep, as `setcap` stores it


def unpack(data: bytes, root: Path, form: Whiteouts = OVERLAY, limits: Limits = DEFAULT_LIMITS) -> None:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        unpack_layer(io.BytesIO(data), fd, whiteouts=form, limits=limits)
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make a directory beside the root that stands for the machine, with all that must not change."""
    path = tmp_path / "host"
    (path / "sub").mkdir(parents=True, mode=0o700)
    secret = path / "secret"
    secret.write_text("host")
    secret.chmod(0o600)
    os.setxattr(secret, "user.mine", b"1")
    (path / "link").symlink_to("secret")
    return path


def seen_from_outside(host: Path) -> tuple[object, ...]:
    inodes = [(str(path), path.lstat().st_ino, path.lstat().st_ctime_ns) for path in sorted(layers.walk(host))]
    return inodes, snapshot(host), sorted(os.listdir(host.parent))


@pytest.mark.parametrize("form", [OVERLAY, APPLY])
@pytest.mark.parametrize("name", evil.CASES)
def test_evil_layers(name: str, form: Whiteouts, root: Path, host: Path):
    data = evil.build(name, host)
    before = seen_from_outside(host)
    fds = len(os.listdir("/proc/self/fd"))
    if evil.CASES[name][0] == evil.REFUSED:
        with pytest.raises(InvalidArgument) as caught:
            unpack(data, root, form)
        assert str(caught.value).isprintable()
    else:
        unpack(data, root, form)
        made_opaque = form is OVERLAY and name.startswith("directory over a link")
        opaque = [(os.fsencode(root / "d"), "trusted.overlay.opaque")] if made_opaque else []
        assert forbidden_xattrs(root) == opaque
        assert stat.S_IMODE(root.stat().st_mode) & ~0o755 == 0
    assert seen_from_outside(host) == before
    assert len(os.listdir("/proc/self/fd")) == fds
    subprocess.run(["rm", "-rf", "--", root], check=True)  # pytest's own removal gives up on deep trees


def forbidden_xattrs(root: Path) -> list[tuple[bytes, str]]:
    """List what overlayfs or a security module would act on; ``find`` because of the deep trees."""
    run = subprocess.run(["find", root, "-maxdepth", "3", "-print0"], capture_output=True, check=True)
    return [
        (path, name)
        for path in run.stdout.rstrip(b"\0").split(b"\0")
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith("user.") or name.startswith("user.overlay")
    ]


def test_the_naive_unpacker_falls_for_them(root: Path, host: Path, tmp_path: Path):
    hits = []
    for name in evil.CASES:
        if "a thousand" in name:
            continue
        place = tmp_path / "case"
        place.mkdir()
        (place / "root").mkdir()
        subprocess.run(["cp", "-a", host, place / "host"], check=True)
        before = seen_from_outside(place / "host")
        with suppress(PlugrunError):  # the reader refused the archive, not the unpacker
            evil.unpack_naively(evil.build(name, place / "host"), place / "root")
        if seen_from_outside(place / "host") != before:
            hits.append(name)
        subprocess.run(["rm", "-rf", "--", place], check=True)
    assert len(evil.CASES) >= 80
    assert len(hits) >= 20, hits


# --- Honest layers ----------------------------------------------------------------------------------------------------


def make_tree(root: Path) -> None:
    """Make one of everything, with times in the past."""
    for name in ("bin", "usr/lib/deep/er", "empty", "var"):
        (root / name).mkdir(parents=True)
    (root / "bin/su").write_bytes(b"setuid" * 100_000)
    os.chown(root / "bin/su", 0, 42)
    (root / "bin/su").chmod(0o4755)
    (root / "bin/ping").write_bytes(b"ping")
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    os.setxattr(root / "bin/ping", "user.note", b"\0\xff\n=")
    os.setxattr(root / "var", "user.dir", b"d")
    (root / "usr/lib/deep/er/nothing").touch()
    (root / "usr/lib" / ("n" * 90)).mkdir()
    (root / "usr/lib" / ("n" * 90) / ("m" * 90)).write_text("long")
    os.link(root / "bin/su", root / "usr/lib/su2")
    os.symlink("su", root / "bin/sudo")
    os.link(root / "bin/sudo", root / "bin/sudo2", follow_symlinks=False)
    os.chown(root / "bin/sudo", 5, 6, follow_symlinks=False)
    (root / "var/run").symlink_to("/run/\u00fc")
    os.mkfifo(root / "var/pipe")
    (root / "var/pipe").chmod(0o622)
    os.mknod(root / "var/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (root / "var/null").chmod(0o666)
    os.mknod(root / "var/loop", stat.S_IFBLK | 0o660, os.makedev(7, 200))
    with (root / "var/lastlog").open("wb") as hole:
        for n in range(30):
            hole.seek(n << 18)
            hole.write(b"log" * 1000)
        hole.truncate(8 << 20)
    (root / "var").chmod(0o2775)
    (root / "empty").chmod(0o1777)
    os.chown(root / "empty", 1000, 70000)
    for number, path in enumerate(sorted(layers.walk(root), reverse=True)):
        nanoseconds = (1_500_000_000 + number) * 1_000_000_000 + 123_456_789
        os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)


FORMATS = {
    "ustar": ["--format=ustar"],
    "gnu": ["--format=gnu", "--sparse"],
    "v7": ["--format=v7", "--exclude=pipe", "--exclude=null", "--exclude=loop", "--exclude=n*n"],
    "pax": ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse"],
    "pax sparse 0.1": ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=0.1"],
    "pax sparse 0.0": ["--format=pax", "--sparse", "--sparse-version=0.0"],
    "pax, sorted": ["--format=pax", "--xattrs", "--xattrs-include=*", "--sort=name"],
}


@pytest.mark.parametrize("form", [OVERLAY, APPLY])
@pytest.mark.parametrize("name", FORMATS)
def test_an_honest_layer_comes_out_as_gnu_tar_unpacks_it(name: str, form: Whiteouts, root: Path, tmp_path: Path):
    source, expected, archive = tmp_path / "source", tmp_path / "expected", tmp_path / "a.tar"
    source.mkdir(mode=0o755)
    expected.mkdir()
    make_tree(source)
    options = ["--numeric-owner", "-C", source]
    subprocess.run(["tar", "-cf", archive, *FORMATS[name], *options, "."], check=True)
    everything = ["--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    subprocess.run(["tar", "-xpf", archive, "-C", expected, *everything], check=True)
    unpack(archive.read_bytes(), root, form)
    assert snapshot(root) == snapshot(expected)
    assert groups(root) == groups(expected)
    blocks = [(tree / "var/lastlog").stat().st_blocks for tree in (root, expected)]
    assert abs(blocks[0] - blocks[1]) <= 16  # a block of the file system's own bookkeeping, more or less
    assert (blocks[0] < 1000) == ("--sparse" in FORMATS[name])


def groups(root: Path) -> list[list[str]]:
    """List the paths that are one file."""
    found: dict[int, list[str]] = {}
    for path in layers.walk(root):
        found.setdefault(path.lstat().st_ino, []).append(str(path.relative_to(root)))
    return sorted(sorted(paths) for paths in found.values())


def test_the_umask_changes_nothing(root: Path):
    previous = os.umask(0o077)
    try:
        unpack(layer(directory(b"d/", mode=0o777), file(b"e/f", b"", mode=0o666), header(b"p", b"6", mode=0o666)), root)
    finally:
        os.umask(previous)
    modes = {name: stat.S_IMODE((root / name).stat().st_mode) for name in ("d", "e", "e/f", "p")}
    assert modes == {"d": 0o777, "e": 0o755, "e/f": 0o666, "p": 0o666}


def test_files_of_one_directory_get_each_what_is_theirs(root: Path):
    wanted = {
        f"d/{number}".encode(): (mode, uid, gid)
        for number, (mode, uid, gid) in enumerate(
            [(0o644, 0, 0), (0o644, 5, 0), (0o644, 0, 6), (0o600, 0, 0), (0o666, 0, 0), (0o4755, 0, 0), (0o755, 0, 0)]
            * 2
        )
    }
    unpack(layer(*(file(name, b"x", mode=m, uid=u, gid=g) for name, (m, u, g) in wanted.items())), root)
    found = {name: (root / name.decode()).stat() for name in wanted}
    assert {name: (stat.S_IMODE(one.st_mode), one.st_uid, one.st_gid) for name, one in found.items()} == wanted


def test_a_setgid_parent_does_not_pass_its_group_on(root: Path):
    unpack(layer(directory(b"d/", mode=0o2755, gid=7), file(b"d/f", b"", gid=0), directory(b"d/e", mode=0o755)), root)
    assert (root / "d/f").stat().st_gid == 0
    assert stat.S_IMODE((root / "d/e").stat().st_mode) == 0o755


@pytest.mark.parametrize("form", [OVERLAY, APPLY])
def test_a_directory_keeps_its_time_whatever_happens_in_it(root: Path, form: Whiteouts):
    unpack(layer(directory(b"./", mtime=5), directory(b"d/", mtime=6), file(b"d/old", b"")), root, form)
    unpack(layer(file(b"d/new", b""), file(b"d/e/f", b""), file(b"d/.wh.old", b""), file(b"d/new", b"2")), root, form)
    assert [(root / name).stat().st_mtime for name in (".", "d")] == [5, 6]
    unpack(layer(directory(b"d/", mtime=7)), root, form)
    assert (root / "d").stat().st_mtime == 7


def test_missing_parents_are_plain_directories(root: Path):
    unpack(layer(file(b"a/b/c", b"")), root)
    for name in ("a", "a/b"):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o755, 0, 0)


def test_special_modes_survive(root: Path):
    unpack(layer(file(b"f", b"", mode=0o6755, uid=9, gid=9), directory(b"d/", mode=0o3777, uid=9)), root)
    assert [stat.S_IMODE((root / n).stat().st_mode) for n in "fd"] == [0o6755, 0o3777]


def test_allowed_attributes_are_set(root: Path):
    members = [
        xattr(b"security.capability", CAPABILITY) + file(b"ping", b"", uid=5),
        xattr(b"user.a", b"") + file(b"f"),
    ]
    unpack(layer(*members), root)
    assert os.getxattr(root / "ping", "security.capability") == CAPABILITY
    assert os.getxattr(root / "f", "user.a") == b""


@pytest.mark.parametrize("form", [OVERLAY, APPLY])
def test_a_second_entry_for_a_directory_replaces_its_attributes(root: Path, form: Whiteouts):
    members = [xattr(b"user.a", b"1"), directory(b"d/"), file(b"d/f", b""), xattr(b"user.b", b"2"), directory(b"d/")]
    unpack(layer(*members), root, form)
    assert os.listxattr(root / "d") == ["user.b"]
    assert os.listdir(root / "d") == ["f"]


def test_holes_take_no_space(root: Path):
    members = pax((b"GNU.sparse.size", b"%d" % (400 << 30)), (b"GNU.sparse.map", b"%d,3" % (100 << 30)))
    unpack(layer(members + file(b"f", b"abc")), root)
    status = (root / "f").stat()
    assert (status.st_size, status.st_blocks < 64) == (400 << 30, True)
    with (root / "f").open("rb") as hole:
        hole.seek(100 << 30)
        assert hole.read(4) == b"abc\0"


def test_the_stream_is_read_to_its_end(root: Path):
    stream = Dribble([layer(file(b"a", b"x")), bytes(9000), b"rest"], step=700)
    fd = os.open(root, os.O_PATH)
    unpack_layer(stream, fd, whiteouts=OVERLAY)
    os.close(fd)
    assert stream.ended


# --- Whiteouts --------------------------------------------------------------------------------------------------------

LOWER = layer(
    directory(b"./"),
    directory(b"d/", mode=0o755),
    file(b"d/a", b"lower a"),
    file(b"d/b", b"lower b"),
    directory(b"d/sub/"),
    file(b"d/sub/x", b"lower x"),
    file(b"f", b"lower f"),
    file(b"g", b"lower g"),
    symlink(b"l", b"/d"),
    directory(b"e/"),
    file(b"e/y", b"lower y"),
)

UPPER = {
    "plain": [file(b".wh.f"), directory(b"d/"), file(b"d/.wh.a")],
    "opaque": [directory(b"d/"), file(b"d/.wh..wh..opq"), file(b"d/new", b"n")],
    "opaque with a lower name": [directory(b"d/"), file(b"d/.wh..wh..opq"), file(b"d/a", b"upper a")],
    "opaque above a directory": [
        directory(b"d/"),
        file(b"d/.wh..wh..opq"),
        directory(b"d/sub/"),
        file(b"d/sub/z", b"z"),
    ],
    "opaque, and one of its names hidden too": [directory(b"d/"), file(b"d/.wh..wh..opq"), file(b"d/.wh.a")],
    "file remade": [file(b".wh.f"), file(b"f", b"upper f")],
    "directory remade": [file(b".wh.d"), directory(b"d/"), file(b"d/new", b"n")],
    "directory begun anew without an entry": [file(b".wh.d"), file(b"d/new", b"n")],
    "nested directory remade": [directory(b"d/"), file(b"d/.wh.sub"), directory(b"d/sub/"), file(b"d/sub/new", b"n")],
    "directory to file": [file(b"d", b"now a file")],
    "directory to file, said twice": [file(b".wh.d"), file(b"d", b"now a file")],
    "file to directory": [directory(b"f/"), file(b"f/new", b"n")],
    "file to directory, said twice": [file(b".wh.f"), directory(b"f/"), file(b"f/new", b"n")],
    "file to directory without an entry": [file(b"f/new", b"n")],
    "link to directory": [directory(b"l/"), file(b"l/new", b"n")],
    "hard linked whiteouts": [file(b".wh.f"), hardlink(b".wh.g", b".wh.f")],
    "nothing to hide": [file(b".wh.missing"), directory(b"e/"), file(b"e/.wh.missing")],
    "link": [file(b".wh.l")],
    "everything": [file(b".wh.d"), file(b".wh.e"), file(b".wh.f"), file(b".wh.g"), file(b".wh.l")],
}


@contextmanager
def mounted(what: str, target: Path, options: str) -> Iterator[None]:
    target.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", what, "-o", options, what, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def through_overlay(lower: bytes, upper: bytes, work: Path) -> dict[str, tuple[object, ...]]:
    for name in ("lower", "upper", "merged"):
        (work / name).mkdir(parents=True)
    unpack(lower, work / "lower")
    unpack(upper, work / "upper")
    with mounted("overlay", work / "merged", f"ro,lowerdir={work}/upper:{work}/lower"):
        return snapshot(work / "merged", times=False)


@pytest.mark.parametrize("name", UPPER)
def test_whiteouts_mean_the_same_in_both_forms_and_in_every_order(name: str, tmp_path: Path):
    chance = random.Random(name)
    members = UPPER[name]
    seen = set()
    for turn in range(6):
        work = tmp_path / str(turn)
        upper = layer(*members)
        overlay = through_overlay(LOWER, upper, work)
        (work / "applied").mkdir()
        unpack(LOWER, work / "applied", APPLY)
        unpack(upper, work / "applied", APPLY)
        assert snapshot(work / "applied", times=False) == overlay
        seen.add(repr(overlay))
        members = chance.sample(members, len(members))
    assert len(seen) == 1


def test_whiteouts_hide_what_they_say(tmp_path: Path):
    found = through_overlay(LOWER, layer(*UPPER["plain"], *UPPER["nested directory remade"]), tmp_path)
    assert sorted(found) == [".", "d", "d/b", "d/sub", "d/sub/new", "e", "e/y", "g", "l"]


def test_overlay_marks(root: Path):
    unpack(layer(file(b".wh.f"), directory(b"d/"), file(b"d/.wh..wh..opq")), root)
    status = (root / "f").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"


def test_a_directory_entry_does_not_take_the_opaque_mark_away(root: Path):
    unpack(layer(directory(b"d/"), file(b"d/.wh..wh..opq"), directory(b"d/")), root)
    assert os.getxattr(root / "d", "trusted.overlay.opaque") == b"y"


def test_kept_directories_keep_their_time(root: Path):
    unpack(layer(directory(b"d/"), file(b"d/old", b"")), root, APPLY)
    unpack(layer(directory(b"d/", mtime=77), file(b"d/new", b""), file(b".wh.d")), root, APPLY)
    assert (os.listdir(root / "d"), (root / "d").stat().st_mtime) == (["new"], 77)


# --- What the machine cannot do ---------------------------------------------------------------------------------------


def test_a_full_file_system_is_named(tmp_path: Path):
    small = tmp_path / "small"
    with mounted("tmpfs", small, "size=1m"), pytest.raises(Unavailable, match="no space") as caught:
        unpack(layer(file(b"f", bytes(2 << 20))), small)
    assert str(small) in str(caught.value)
    assert caught.value.hint


def test_a_file_system_without_attributes(tmp_path: Path):
    bare = tmp_path / "bare"
    with mounted("ramfs", bare, "mode=755"):
        unpack(layer(xattr(b"user.a", b"1"), file(b"f", b""), directory(b"d/"), directory(b"d/")), bare)
        with pytest.raises(Unavailable, match="capabilities"):
            unpack(layer(xattr(b"security.capability", CAPABILITY), file(b"ping", b"")), bare)


def test_a_read_only_file_system_names_the_entry(tmp_path: Path):
    bare = tmp_path / "bare"
    with mounted("tmpfs", bare, "ro"), pytest.raises(DriverError, match='"etc/f": Read-only'):
        unpack(layer(file(b"etc/f", b"")), bare)


def test_limits_reach_the_reader(root: Path):
    with pytest.raises(InvalidArgument, match="2 members"):
        unpack(layer(*[file(b"f")] * 3), root, limits=Limits(members=2))


def test_a_bomb_of_whiteouts_and_names_is_fast(root: Path):
    deep = b"/".join([b"l"] * 39)
    members = [symlink(b"l", b"."), *[file(deep + b"/f%d" % n, b"") for n in range(2000)]]
    started = resource.getrusage(resource.RUSAGE_SELF)
    unpack(layer(*members), root)
    ended = resource.getrusage(resource.RUSAGE_SELF)
    assert ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime < 20
    assert len(os.listdir(root)) == 2001


Maker = Callable[[random.Random, bytes, bytes], bytes]
MAKERS: list[Maker] = [
    lambda r, name, other: file(name, b"x" * r.randrange(2000), mode=r.randrange(0o10000)),
    lambda r, name, other: directory(name, mode=r.randrange(0o10000)),
    lambda r, name, other: symlink(name, other),
    lambda r, name, other: hardlink(name, other),
    lambda r, name, other: header(name, r.choice([b"3", b"4", b"6"]), major=r.randrange(9), minor=r.randrange(3)),
    lambda r, name, other: file(os.path.join(os.path.dirname(name), b".wh." + os.path.basename(name))),
    lambda r, name, other: file(name + b"/.wh..wh..opq"),
    lambda r, name, other: xattr(r.choice([b"user.a", b"trusted.overlay.opaque"]), b"y"),
]


@pytest.mark.parametrize("form", [OVERLAY, APPLY])
def test_random_layers_never_leave_the_root(form: Whiteouts, host: Path, tmp_path: Path):
    chance = random.Random(7)
    parts = [b"a", b"b", b"c", b".", b"..", b"", os.fsencode(host), b"../host"]
    before = snapshot(host)
    outcomes = {"unpacked": 0, "refused": 0}
    for turn in range(150):
        place = tmp_path / f"r{turn}"
        place.mkdir()
        try:
            for _ in range(12):
                paths = [
                    b"/".join(chance.choices(parts, [9, 9, 9, 2, 1, 1, 1, 1], k=chance.randint(1, 4))) for _ in "12"
                ]
                name, other = (path[:99] for path in paths)
                unpack(layer(chance.choice(MAKERS)(chance, name or b"a", other or b"b")), place, form)
                outcomes["unpacked"] += 1
        except InvalidArgument:
            outcomes["refused"] += 1
    assert snapshot(host) == before
    assert min(outcomes.values()) > 50
