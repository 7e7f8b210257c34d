"""Archives written so that tar reads them, and read so that nothing in them reaches beyond the destination."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile

import pytest

import trees
from copying.test_tree import fill
from plugrun.copying import tar_in
from plugrun.copying.ends import End
from plugrun.copying.parents import ArchiveParents
from plugrun.copying.place import Placer
from plugrun.copying.policy import Policy
from plugrun.copying.tar_out import TarWriter
from plugrun.copying.walk import Walk
from plugrun.errors import InvalidArgument, PlugrunError
from plugrun.rootfd import RootDir

pytestmark = pytest.mark.root

KEEP = Policy(owner=None, rights=True, devices=True, existing=True)


def pack(source, name=b""):
    out = io.BytesIO()
    fd = os.open(source, os.O_PATH)
    with RootDir.at("/") as root:
        archive = TarWriter(name, out.write, lambda count: None)
        for item in Walk(fd, End(root, inside=True)).items():
            archive.put(item)
        archive.close()
    os.close(fd)
    return out.getvalue(), archive


def unpack(data, root_path, place="/dest", tmp=None):
    """Extract as into a container whose root is ``root_path``."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    file = os.memfd_create("archive")
    os.write(file, data)
    os.lseek(file, 0, os.SEEK_SET)
    base = os.open(f"{root_path}{place}", os.O_PATH)
    try:
        with RootDir.at(root_path) as root:
            end = End(root, inside=True)
            placer = Placer(base, b"", ArchiveParents(base, end, root, place), KEEP, lambda count: None)
            try:
                for item in tar_in.read(file):
                    placer.put(item)
            finally:
                placer.close()
    finally:
        os.close(base)
        os.close(file)


@pytest.fixture
def root(tmp_path):
    for name in ("root/dest", "root/usr/bin", "root/etc", "host"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "host/secret").write_text("host")
    return tmp_path / "root"


def make(*members):
    """An archive of (name, type, link target or content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, value in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o644
            content = b""
            if kind == tarfile.REGTYPE:
                content = value
                info.size = len(content)
            elif isinstance(value, tuple):
                info.devmajor, info.devminor = value
            else:
                info.linkname = value
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


FILE, LINK, HARD, DIR, CHAR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE


def in_seconds(tree):
    return {name: node._replace(mtime=node.mtime // 10**9) for name, node in tree.items()}


@pytest.mark.parametrize("reader", ["ours", "tar"])
def test_a_tree_through_an_archive(source, root, reader):
    fill(source)
    (source / ("n" * 200)).mkdir()
    (source / ("n" * 200) / ("m" * 90)).symlink_to("t" * 300)
    os.chown(source / "empty", 3_000_000, 3_000_000, follow_symlinks=False)
    os.utime(source / "empty", ns=(0, -5_000_000_000))
    os.utime(source, ns=(5, 2_000_000_009))
    data, _ = pack(source)
    if reader == "ours":
        unpack(data, root)
    else:
        options = ["--xattrs", "--xattrs-include=*", "--same-owner", "-p"]
        subprocess.run(["tar", "x", *options, "-C", root / "dest"], input=data, check=True)
    assert trees.differences(in_seconds(trees.survey(root / "dest")), in_seconds(trees.survey(source))) == []


def test_a_name_in_front(source):
    (source / "d").mkdir()
    (source / "d/f").touch()
    data, _ = pack(source, b"name")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["name", "name/d", "name/d/f"]


def test_a_file_that_is_cut_short_is_filled_up_and_said_so(source, monkeypatch):
    (source / "a").write_bytes(b"x" * 5000)
    (source / "b").write_text("after")
    real = TarWriter._data

    def cut(self, path, content):
        os.truncate(source / "a", 1000) if path == b"a" else None
        real(self, path, content)

    monkeypatch.setattr(TarWriter, "_data", cut)
    data, archive = pack(source)
    assert archive.cut == [b"a"]
    with tarfile.open(fileobj=io.BytesIO(data)) as found:
        assert found.extractfile("a").read() == b"x" * 1000 + bytes(4000)
        assert found.extractfile("b").read() == b"after"


@pytest.mark.parametrize("compress", [lambda data: data, gzip.compress], ids=["plain", "gzip"])
def test_directories_that_the_archive_leaves_out_are_made(root, compress):
    unpack(compress(make(("a/b/c", FILE, b"x"), ("/abs/olute", FILE, b"y"))), root)
    assert (root / "dest/a/b/c").read_bytes() == b"x"
    assert (root / "dest/abs/olute").read_bytes() == b"y"
    assert stat.S_IMODE((root / "dest/a").stat().st_mode) == 0o755


def test_links_of_the_container_lead_on_inside_it(root, tmp_path):
    (root / "dest/bin").symlink_to("../usr/bin")
    (root / "dest/run").symlink_to("/etc")
    (root / "dest/out").symlink_to(tmp_path / "host")
    unpack(make(("bin/tool", FILE, b"x"), ("run/conf", FILE, b"y")), root)
    assert (root / "usr/bin/tool").exists()
    assert (root / "etc/conf").exists()
    with pytest.raises(PlugrunError):
        unpack(make(("out/secret", FILE, b"z")), root)
    assert (tmp_path / "host/secret").read_text() == "host"


@pytest.mark.parametrize(
    "members",
    [
        [("../x", FILE, b"")],
        [("a/../../x", FILE, b"")],
        [("l", LINK, "/etc"), ("l/x", FILE, b"")],
        [("l", LINK, "../etc"), ("l/x", FILE, b"")],
        [("d", DIR, ""), ("d/l", LINK, "/"), ("d/l/etc/x", FILE, b"")],
        [("h", HARD, "../etc/passwd")],
        [("h", HARD, "/../../etc/passwd")],
        [("l", LINK, "/etc"), ("h", HARD, "l/passwd")],
        [("h", HARD, "no/such")],
        [("d", DIR, ""), ("h", HARD, "d")],
        [(".", FILE, b"x")],
        [(".", LINK, "/etc")],
        [("n", CHAR, (0, 0))],
        [("f", FILE, b""), ("f/x", FILE, b"")],
    ],
)
def test_what_reaches_beyond_is_refused(root, members):
    (root / "etc/passwd").write_text("untouched")
    before = trees.survey(root / "etc")
    with pytest.raises(PlugrunError):
        unpack(make(*members), root)
    assert trees.survey(root / "etc") == before
    assert sorted(os.listdir(root)) == ["dest", "etc", "usr"]


def test_an_archives_own_link_is_replaced_not_written_through(root):
    (root / "etc/passwd").write_text("untouched")
    unpack(make(("l", LINK, "/etc/passwd"), ("l", FILE, b"mine")), root)
    assert (root / "etc/passwd").read_text() == "untouched"
    assert (root / "dest/l").read_bytes() == b"mine"


def test_hard_links_and_devices(root):
    unpack(make(("a", FILE, b"x"), ("d/b", HARD, "a"), ("null", CHAR, (1, 3))), root)
    assert (root / "dest/d/b").stat().st_ino == (root / "dest/a").stat().st_ino
    assert (root / "dest/null").stat().st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize(
    "data",
    [b"x" * 600, make(("a", FILE, b"x" * 5000))[:1500], gzip.compress(b"x", mtime=0)[:10]],
    ids=["noise", "cut short", "packed and cut short"],
)
def test_what_is_no_archive_leaves_no_half_of_a_file(root, data):
    with pytest.raises(InvalidArgument):
        unpack(data, root)
    assert os.listdir(root / "dest") == []
