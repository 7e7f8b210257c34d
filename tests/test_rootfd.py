"""File access in a hostile directory tree never leaves it, never blocks, and still follows honest links."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from plugrun import openat2
from plugrun.errors import InvalidArgument, NotFound, Unavailable
from plugrun.rootfd import RootDir


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make what an escape would hit: a directory beside the root, with a file in it."""
    outside = tmp_path / "host"
    outside.mkdir()
    (outside / "secret").write_text("host")
    return outside


@pytest.fixture
def tree(tmp_path: Path, host: Path) -> Path:
    root = tmp_path / "root"
    for name in ("etc", "run/lock", "usr/bin"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")
    (root / "bin").symlink_to("usr/bin")
    (root / "absolute").symlink_to(host)
    (root / "relative").symlink_to("../" * 30 + str(host).lstrip("/"))
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("/not/yet")
    return root


ESCAPES = ["absolute/secret", "relative/secret", "../host/secret", "/../host/secret", "etc/../../host/secret"]


@pytest.mark.parametrize("path", ESCAPES)
def test_open_stays_inside(tree: Path, path: str):
    with RootDir.at(tree) as root, pytest.raises(FileNotFoundError):
        root.open(path, os.O_RDONLY)


@pytest.mark.parametrize("path", ESCAPES)
def test_a_plain_open_would_escape(tree: Path, path: str):
    assert Path(f"{tree}/{path}").read_text() == "host"


def test_open_does_not_follow_magic_links(host: Path):
    refused = pytest.raises(OSError, match=os.strerror(errno.ELOOP))
    with RootDir.at("/") as root, host.joinpath("secret").open() as secret, refused:
        root.open(f"/proc/self/fd/{secret.fileno()}", os.O_RDONLY)


def test_open_follows_links_inside(tree: Path):
    (tree / "run/pid").write_text("1")
    with RootDir.at(tree) as root:
        fd = root.open("var/run/pid", os.O_RDONLY)
        assert os.read(fd, 9) == b"1"
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_open_refuses_nul(tree: Path):
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="NUL"):
        root.open("etc/passwd\0.txt", os.O_RDONLY)


def test_open_works_with_names_that_are_not_utf8(tree: Path):
    name = os.fsdecode(b"etc/\xff\xfe")
    with RootDir.at(tree) as root:
        os.close(root.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        assert b"\xff\xfe" in os.listdir(os.fsencode(tree / "etc"))
        assert root.resolve(name) == "/" + name


def test_old_kernel_is_one_sentence(tree: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(openat2, "_OPENAT2", 4095)  # no such system call
    with RootDir.at(tree) as root, pytest.raises(Unavailable, match="openat2") as caught:
        root.open("etc", os.O_PATH)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_at_names_the_missing_directory(tmp_path: Path):
    with pytest.raises(NotFound, match="nothing-here"):
        RootDir.at(tmp_path / "nothing-here")


def test_close_twice(tree: Path):
    root = RootDir.at(tree)
    root.close()
    root.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("", "/"),
        ("/var/run/x", "/run/x"),
        ("var/run/../tmp", "/tmp"),
        ("/bin/sh", "/usr/bin/sh"),
        ("/../../etc/passwd", "/etc/passwd"),
        ("/missing/a/../b", "/missing/b"),
        ("/dangling/x", "/not/yet/x"),
        ("//etc/./passwd", "/etc/passwd"),
    ],
)
def test_resolve(tree: Path, path: str, expected: str):
    with RootDir.at(tree) as root:
        assert root.resolve(path) == expected


def test_resolve_keeps_hostile_links_inside(tree: Path, host: Path):
    with RootDir.at(tree) as root:
        assert root.resolve("absolute/secret") == f"{host}/secret"  # a path below the root, where nothing is
        assert root.resolve("relative/secret") == f"{host}/secret"


def test_resolve_refuses_loops_and_files_as_directories(tree: Path):
    with RootDir.at(tree) as root:
        with pytest.raises(InvalidArgument, match="loop"):
            root.resolve("loop/x")
        with pytest.raises(InvalidArgument, match="passwd"):
            root.resolve("etc/passwd/x")


def test_resolve_ends_on_a_link_bomb(tree: Path):
    (tree / "bomb").symlink_to("/".join(["bomb/.."] * 500))
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="bomb"):
        root.resolve("bomb")


@pytest.mark.parametrize("path", ["a/" * 5000, "a/../" * 1000, "run/" + "a/" * 5000])
def test_resolve_refuses_too_long_paths(tree: Path, path: str):
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="too long"):
        root.resolve(path, covered=["/run"])


class Counted(set[bytes]):
    """Covered places that count how often somebody asks whether a path is one."""

    asked = 0

    def __contains__(self, path: object) -> bool:
        self.asked += 1
        return super().__contains__(path)


def test_resolve_asks_once_for_each_component(tree: Path):
    for number in range(30):
        (tree / f"chain{number}").symlink_to("a/../" * 50 + f"chain{number + 1}")
    for path, most in ((b"a/" * 1000, 1000), (b"chain0", 30 * 51 + 1), (b"run/" + b"a/" * 1000, 1)):
        covered = Counted({b"run"})
        with RootDir.at(tree) as root:
            root._resolve(path, covered)
        assert covered.asked == most, path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/run/link", "/run/link"),
        ("/run/a/../link", "/run/link"),
        ("/run/../bin", "/usr/bin"),
        ("/run/a/../../bin/x", "/usr/bin/x"),
        ("/run/../run/link", "/run/link"),
        ("/var/run/link", "/run/link"),
        ("/usr/link", "/usr/bin"),
    ],
)
def test_resolve_looks_into_no_covered_place(tree: Path, path: str, expected: str):
    (tree / "run/link").symlink_to("/usr/bin")
    (tree / "usr/link").symlink_to("/usr/bin")
    with RootDir.at(tree) as root:
        assert root.resolve(path, covered=["/run", "/usr/bin"]) == expected


@pytest.mark.root
def test_ensure_dir_creates_what_is_missing_with_its_mode_and_owner(tree: Path):
    previous = os.umask(0o077)
    try:
        with RootDir.at(tree) as root:
            fd = root.ensure_dir("/var/run/app/data", mode=0o2750, uid=12, gid=34)
    finally:
        os.umask(previous)
    assert os.path.samestat(os.fstat(fd), (tree / "run/app/data").stat())
    os.close(fd)
    for made in (tree / "run/app", tree / "run/app/data"):
        status = made.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2750, 12, 34)
    assert stat.S_IMODE((tree / "run").stat().st_mode) == 0o755


def test_ensure_dir_never_creates_outside(tree: Path, host: Path):
    with RootDir.at(tree) as root:
        for path in ("absolute/made", "relative/made", "../host/made", "dangling"):
            os.close(root.ensure_dir(path))
    assert os.listdir(host) == ["secret"]
    assert (tree / "not/yet").is_dir()
    assert (tree / str(host).lstrip("/") / "made").is_dir()


def test_ensure_dir_of_the_root_itself(tree: Path):
    with RootDir.at(tree) as root:
        fd = root.ensure_dir("/..")
        assert os.path.samestat(os.fstat(fd), tree.stat())
        os.close(fd)


def test_ensure_dir_refuses_a_file_in_the_way(tree: Path):
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="etc/passwd"):
        root.ensure_dir("etc/passwd")


def test_ensure_dir_leaks_no_descriptor(tree: Path):
    with RootDir.at(tree) as root:
        before = len(os.listdir("/proc/self/fd"))
        os.close(root.ensure_dir("a/b/c"))
        with pytest.raises(InvalidArgument):
            root.ensure_dir("etc/passwd/x")
        root.ensure_file("a/f")
        root.read_regular("a/f", limit=1)
        with pytest.raises(InvalidArgument):
            root.read_regular("etc", limit=1)
        assert len(os.listdir("/proc/self/fd")) == before


def test_ensure_file(tree: Path, host: Path):
    (tree / "etc/hosts").symlink_to(host / "new")
    with RootDir.at(tree) as root:
        root.ensure_file("etc/resolv.conf")
        root.ensure_file("etc/passwd")
        root.ensure_file("etc/hosts")
        for path in ("etc", "/"):
            with pytest.raises(InvalidArgument, match="directory"):
                root.ensure_file(path)
    assert stat.S_IMODE((tree / "etc/resolv.conf").stat().st_mode) == 0o644
    assert (tree / "etc/passwd").read_text() == "inside"
    assert os.listdir(host) == ["secret"]
    assert (tree / str(host / "new").lstrip("/")).is_file()


def test_read_regular(tree: Path):
    with RootDir.at(tree) as root:
        assert root.read_regular("etc/passwd", limit=6) == b"inside"
        assert root.read_regular("etc/group", limit=6) is None
        assert root.read_regular("etc/passwd/x", limit=6) is None
        assert root.read_regular("absolute/secret", limit=6) is None


def test_read_regular_refuses_large_files(tree: Path):
    os.truncate(tree / "etc/passwd", 2 << 30)
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="larger than 1024"):
        root.read_regular("etc/passwd", limit=1024)


def test_read_regular_refuses_fifos_without_blocking(tree: Path):
    os.mkfifo(tree / "etc/group")
    with RootDir.at(tree) as root:
        for path in ("etc/group", "etc"):
            with pytest.raises(InvalidArgument, match="not a regular file"):
                root.read_regular(path, limit=1024)
        with pytest.raises(InvalidArgument, match="loop"):
            root.read_regular("loop", limit=1024)


@pytest.mark.root
def test_read_regular_does_not_open_devices(tree: Path):
    # No driver has this number: opening it would fail with ENXIO, so the verdict shows that it was not opened.
    os.mknod(tree / "etc/shadow", stat.S_IFCHR | 0o600, os.makedev(4000, 0))
    with RootDir.at(tree) as root, pytest.raises(InvalidArgument, match="not a regular file"):
        root.read_regular("etc/shadow", limit=1024)
