"""What is unpacked is what umoci, the reference tool for OCI layers, unpacks: every path, and all there is to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import pytest

import trees
from images import archives, nasty
from images.layers import directory, layer
from images.sparse_files import old_sparse
from plugrun.lifecycle.create import unpacked
from plugrun.testing import mounted

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")]


LEGAL = {
    # An empty value removes a record (POSIX, pax), says Go's tar reader, which Docker and Podman have as well; GNU tar
    # and bsdtar write attributes with empty values so, and read them.
    (b"meta/empty-value", "xattrs"),
    # Nobody says the time of a directory without an entry: it is when it was unpacked.
    (b"implied/no-entry", "mtime"),
    # And umoci then leaves that time in the directory above as well, whose entry says another.
    (b"implied", "mtime"),
}
EXPECTED = {"busybox": set(), "debian": set(), "nasty": LEGAL}


def tool(*argv):
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """Make a directory for a purpose, or return the one that was made."""
    made = {}

    def make(purpose, name, fill):
        if (purpose, name) not in made:
            place = tmp_path_factory.mktemp(purpose) / name
            fill(place)
            made[purpose, name] = place
        return made[purpose, name]

    return make


@pytest.fixture
def layout(request, once):
    """Return the OCI layout of an image, whose tag there is its name."""
    kinds = {"busybox": "docker-archive", "debian": "oci-archive"}

    def write(name, place):
        if name == "nasty":
            parts = archives.Parts(nasty.LAYERS, name, packed=archives.gzipped, layer_type=f"{archives.OCI_LAYER}+gzip")
            archives.write_directory(place, parts.oci())
        else:
            archive = f"{kinds[name]}:{request.getfixturevalue(f'{name}_archive')}"
            tool("skopeo", "--insecure-policy", "copy", "-q", archive, f"oci:{place}:{name}")

    return lambda name: once("layout", name, lambda place: write(name, place))


@pytest.fixture
def by_umoci(layout, once):
    """Return the directory in which umoci unpacked an image."""
    unpack = ("umoci", "raw", "unpack", "--image")
    return lambda name: once("umoci", name, lambda place: tool(*unpack, f"{layout(name)}:{name}", place))


@pytest.fixture(params=["load", "pull"])
def bring(request, storage, plugrun, plain_registry):
    """Get the image of a layout into the store; return what it is called there."""

    def bring_in(layout, name):
        if request.param == "load":
            plugrun("load", "-i", str(layout)).ok()
            return name
        pushed = plain_registry.push(f"oci:{layout}:{name}", f"trees/{name}:v1")
        plugrun("--storage", storage, "pull", pushed, env=plain_registry.env).ok()
        return pushed

    return bring_in


@contextlib.contextmanager
def root_of_container(plugrun, storage, image):
    """Make a container, and mount what it will have as its root."""
    container = plugrun("--storage", storage, "create", image, "none").ok().line
    with opened(plugrun) as engine, mounted(engine.storage(storage, {}).mounts(container)) as root:
        yield root


def opened(plugrun):
    return contextlib.closing(plugrun.engine())


@pytest.mark.parametrize("image", EXPECTED)
def test_the_same_tree_as_umoci(storage, plugrun, bring, layout, by_umoci, image):
    name = bring(layout(image), image)
    with root_of_container(plugrun, storage, name) as root:
        found = trees.differences(trees.survey(root), trees.survey(by_umoci(image)))
    assert {(one.name, one.fact) for one in found} == EXPECTED[image], "\n".join(map(str, found))


class OntoParents:
    """A driver that does no more than it must: each layer is unpacked into a mount that holds its parents."""

    def __init__(self, driver):
        for name in ("prepare", "view", "mounts", "commit", "remove", "stat", "walk", "usage", "close"):
            setattr(self, name, getattr(driver, name))


def test_the_same_tree_as_umoci_onto_parents(storage, plugrun, layout, by_umoci):
    plugrun("load", "-i", str(layout("nasty"))).ok()
    with opened(plugrun) as engine:
        driver = OntoParents(engine.storage(storage, {}))
        with unpacked(engine, engine.images.resolve("nasty"), driver) as top, mounted(driver.view("seen", top)) as root:
            found = trees.differences(trees.survey(root), trees.survey(by_umoci("nasty")))
        driver.remove("seen")
    assert {(one.name, one.fact) for one in found} == LEGAL, "\n".join(map(str, found))


def test_where_umoci_is_not_followed(storage, plugrun, layout):
    plugrun("load", "-i", str(layout("nasty"))).ok()
    with root_of_container(plugrun, storage, "nasty") as root:
        assert os.getxattr(root / "meta/empty-value", "user.empty") == b""
        assert (root / "implied").stat().st_mtime == 1_000_000_000
        # umoci writes the holes out.
        files = {path.name: path.stat() for path in (root / "sparse").iterdir()}
        full = {name for name, info in files.items() if info.st_blocks * 512 >= info.st_size}
        assert full == {"zeros", "empty"}


def test_old_sparse_files_are_as_gnu_tar_unpacks_them(storage, plugrun, tmp_path):
    """The form that umoci does not know, and that GNU tar still writes when not asked for POSIX's."""
    files = [old_sparse(*nasty.PIECES, b"pieces"), old_sparse(*nasty.SCATTERED, b"scattered")]
    archive = layer(directory(b"./"), *files)
    plugrun("load", "-i", archives.write_directory(tmp_path / "layout", archives.Parts([archive], "old").oci())).ok()
    (tmp_path / "tar").mkdir()
    subprocess.run(["tar", "-x", "-p", "-C", str(tmp_path / "tar")], input=archive, check=True)
    with root_of_container(plugrun, storage, "old") as root:
        found = trees.differences(trees.survey(root), trees.survey(tmp_path / "tar"))
        assert not found, "\n".join(map(str, found))
        assert (root / "scattered").stat().st_blocks * 512 < 1 << 20


# --- That a difference would be seen ------------------------------------------------------------------------


@contextlib.contextmanager
def keeping_time(path):
    before = path.lstat()
    yield
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def later(path, nanoseconds=1):
    info = path.lstat()
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + nanoseconds), follow_symlinks=False)


def rewrite(path, data):
    with keeping_time(path):
        path.write_bytes(data)


def replace(path, *command):
    """Put what a command makes at ``{}`` in the place of a file, with its owner, mode and time."""
    new = path.with_name("new")
    with keeping_time(path.parent):
        tool(*[str(new) if word == "{}" else word for word in command])
        before = path.lstat()
        os.lchown(new, before.st_uid, before.st_gid)
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
        os.rename(new, path)


def remove(path):
    with keeping_time(path.parent):
        path.unlink()


def add(path):
    with keeping_time(path.parent):
        path.touch()


CHANGES = {
    "meta/setuid mode": lambda path: path.chmod(0o755),
    "meta/tmp mode": lambda path: path.chmod(0o777),
    "meta/link owner": lambda path: os.lchown(path, 100, -1),
    "meta/large-ids group": lambda path: os.chown(path, -1, 5),
    "meta/before-1970 mtime": later,
    "meta/early-link mtime": later,
    "kept mtime": later,
    ". mtime": later,
    "meta/binary xattrs": lambda path: os.setxattr(path, "user.binary", b"\0"),
    "meta xattrs": lambda path: os.setxattr(path, "user.more", b""),
    "meta/capable xattrs": lambda path: os.removexattr(path, "security.capability"),
    "bin content": lambda path: replace(path, "ln", "-s", "usr/bin/", "{}"),
    "kept/stays content": lambda path: rewrite(path, b"stray"),
    "sparse/hole content": lambda path: rewrite(path, bytes(1000)),
    "meta/null device": lambda path: replace(path, "mknod", "-m", "666", "{}", "c", "1", "5"),
    "meta/null kind": lambda path: replace(path, "mknod", "-m", "666", "{}", "b", "1", "3"),
    "b/c/same same": lambda path: replace(path, "cp", "-a", path, "{}"),
    "b/twin same": lambda path: replace(path, "ln", path.parent.parent / "a/twin", "{}"),
    "swaps/y path": remove,
    "swaps/z path": add,
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_comparison_sees(by_umoci, tmp_path, change):
    original, copy = by_umoci("nasty"), tmp_path / "copy"
    tool("cp", "-a", original, copy)
    before = trees.survey(original)
    assert trees.differences(trees.survey(copy), before) == []
    name, _, fact = change.rpartition(" ")
    CHANGES[change](copy / name)
    found = [(one.name.decode(), one.fact) for one in trees.differences(trees.survey(copy), before)]
    assert found == [(name, fact)]
