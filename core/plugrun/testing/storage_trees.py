"""Cases: what containers see through layers, and the bugs that other engines had there."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plugrun.testing.storage_base import Fill, StorageCases, write
from plugrun.testing.trees import clear, describe, mounted, sync

if TYPE_CHECKING:
    from plugrun.api import StorageDriver

_DEEP = 128
_SPARSE = 16 * 2**20  # bytes
# user:7:rw beside owner, group, mask and other, each as tag, permissions, id: linux/posix_acl_xattr.h
_ACL = struct.pack(
    "<I" + "HHI" * 5, 2, *(1, 6, 2**32 - 1, 2, 6, 7, 4, 4, 2**32 - 1, 16, 6, 2**32 - 1, 32, 4, 2**32 - 1)
)
_NET_RAW = bytes.fromhex("0000000200200000000000000000000000000000")  # VFS_CAP_REVISION_2, linux/capability.h


class TreeCases(StorageCases):
    """Each fills layers one after the other; a plain directory that went through the same must look the same."""

    def agree(self, driver: StorageDriver, plain: Path, *fills: Fill) -> None:
        """Make a layer of each filler and compare every view with ``plain``, an empty directory."""
        plain.chmod(0o755)
        parent = None
        for number, fill in enumerate(fills):
            name = f"layer{number}"
            filled = self.layer(driver, name, parent, fill)
            fill(plain)
            assert self.seen(driver, name, times=True) == filled, f"{name} differs from what was committed"
            assert self.seen(driver, name) == describe(plain), f"{name} differs from a plain directory"
            parent = name

    @pytest.fixture
    def plain(self, tmp_path: Path) -> Path:
        """Return an empty directory for the comparison."""
        plain = tmp_path / "plain"
        plain.mkdir()
        return plain

    def test_deleted_file_stays_deleted(self, driver: StorageDriver, plain: Path) -> None:
        """A file deleted in one layer is gone in the next, and may come back."""
        self.agree(
            driver, plain, write("d/f"), lambda root: clear(root / "d/f"), write("d/other"), write("d/f", "again")
        )

    def test_replaced_directory_hides_the_old_one(self, driver: StorageDriver, plain: Path) -> None:
        """A directory deleted and made again shows nothing of before: moby/moby#25244."""

        def replace(root: Path) -> None:
            clear(root / "lib")
            write("lib/not-hidden")(root)

        self.agree(driver, plain, write("lib/hidden"), replace, write("lib/newfile"))

    def test_types_may_change(self, driver: StorageDriver, plain: Path) -> None:
        """A directory becomes a file, a file a directory, a directory a symbolic link, and back."""

        def flip(root: Path) -> None:
            for name in ("dir", "file", "link"):
                clear(root / name)
            write("dir")(root)
            write("file/inside")(root)
            (root / "link").symlink_to("dir")

        def start(root: Path) -> None:
            for name in ("dir/inside", "file", "link/inside"):
                write(name)(root)

        def back(root: Path) -> None:
            for name in ("dir", "file", "link"):
                clear(root / name)
            start(root)

        self.agree(driver, plain, start, flip, back)

    def test_hard_links_stay_together(self, driver: StorageDriver, plain: Path) -> None:
        """Names of one inode are still names of one inode after the commit."""

        def link(root: Path) -> None:
            write("one")(root)
            (root / "two").hardlink_to(root / "one")
            (root / "d").mkdir()
            (root / "d/three").hardlink_to(root / "one")

        self.agree(driver, plain, link, write("other"))

    def test_attributes_are_kept(self, driver: StorageDriver, plain: Path) -> None:
        """Owners, special mode bits, times, user attributes and file capabilities."""

        def dress(root: Path) -> None:
            write("program")(root)
            os.chown(root / "program", 1000, 2000)
            (root / "program").chmod(0o6755)
            os.setxattr(root / "program", "user.note", b"\0binary\xff")
            os.setxattr(root / "program", "security.capability", _NET_RAW)
            os.utime(root / "program", ns=(1, 1_234_567_891_000_000_001))
            (root / "tmp").mkdir()
            (root / "tmp").chmod(0o1777)

        self.agree(driver, plain, dress, lambda root: os.chown(root / "tmp", 7, 7), write("tmp/x"))

    def test_access_lists_are_kept(self, driver: StorageDriver, plain: Path) -> None:
        """POSIX access control lists of files, and default ones of directories: acl(5)."""

        def grant(root: Path) -> None:
            write("d/f")(root)
            os.setxattr(root / "d/f", "system.posix_acl_access", _ACL)
            os.setxattr(root / "d", "system.posix_acl_default", _ACL)

        self.agree(driver, plain, grant, write("d/g"), lambda root: os.chown(root / "d", 7, 7))

    def test_holes_stay_holes(self, driver: StorageDriver) -> None:
        """A sparse file is as sparse in the committed layer, and in a container that changes a byte of it."""

        def punch(root: Path) -> None:
            with (root / "disk").open("wb") as stream:
                stream.truncate(_SPARSE)
                stream.seek(_SPARSE // 2)
                stream.write(b"island")

        self.layer(driver, "image", None, punch)
        with mounted(driver.prepare("web", "image")) as root:
            with (root / "disk").open("r+b") as stream:
                stream.write(b"X")
            sync(root)
            info = (root / "disk").stat()
            assert info.st_size == _SPARSE
            assert info.st_blocks * 512 < _SPARSE // 8, "the holes were filled"
        with mounted(driver.view("look", "image")) as root:
            assert (root / "disk").stat().st_blocks * 512 < _SPARSE // 8, "the holes were filled"

    def test_times_of_everything_are_kept(self, driver: StorageDriver) -> None:
        """Directories and symbolic links have times too, of nanoseconds, before 1970 and after 2038."""

        def age(root: Path) -> None:
            write("d/f")(root)
            (root / "link").symlink_to("d")
            for name, time in (("d/f", -5), ("link", 2**31 * 10**9 + 7), ("d", 1_000_000_007), (".", 10**18 + 1)):
                os.utime(root / name, ns=(time, time), follow_symlinks=False)

        self.layer(driver, "image", None, age)
        with mounted(driver.prepare("web", "image")) as root:
            times = {name: (root / name).lstat().st_mtime_ns for name in ("d/f", "link", "d", ".")}
        assert times == {"d/f": -5, "link": 2**31 * 10**9 + 7, "d": 1_000_000_007, ".": 10**18 + 1}

    def test_root_directory_is_inherited(self, driver: StorageDriver, plain: Path) -> None:
        """A container's ``/`` has the mode and owner that the image gave it."""

        def narrow(root: Path) -> None:
            root.chmod(0o711)
            os.chown(root, 5, 6)

        self.agree(driver, plain, narrow, write("f"))
        with mounted(driver.prepare("web", "layer1")) as root:
            assert describe(root) == describe(plain)

    def test_special_files(self, driver: StorageDriver, plain: Path) -> None:
        """Named pipes, sockets and device nodes are entries like others: moby/moby#12080."""

        def make(root: Path) -> None:
            os.mkfifo(root / "pipe", 0o600)
            os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
            os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            (root / "dangling").symlink_to("/nowhere/../else")

        self.agree(driver, plain, make, lambda root: clear(root / "pipe"), write("pipe"))

    def test_names_are_bytes(self, driver: StorageDriver, plain: Path) -> None:
        """File names are not text: invalid UTF-8, commas, colons, newlines, 255 bytes."""
        names = [os.fsdecode(b"\xff\xfe"), "a,b:c\\d", "line\nbreak", " ", "y" * 255, ".wh.file"]
        self.agree(driver, plain, *[write(name) for name in names], lambda root: clear(root / names[0]))

    def test_rename_a_directory_of_the_parent(self, driver: StorageDriver) -> None:
        """It works, or answers EXDEV as rename(2) allows, so that ``mv`` copies. Feature ``rename-lower-dir``."""
        self.layer(driver, "image", None, write("old/f"))
        with mounted(driver.prepare("web", "image")) as root:
            if "rename-lower-dir" in self.features:
                (root / "old").rename(root / "new")
                assert (root / "new/f").read_text() == "text"
            else:
                with pytest.raises(OSError, match="cross-device"):
                    (root / "old").rename(root / "new")
                assert (root / "old/f").read_text() == "text"

    # --- Issues: what went wrong elsewhere ------------------------------------------------------------------------

    def test_issue_file_updated_in_the_same_second(self, driver: StorageDriver, plain: Path) -> None:
        """A change that keeps size and time counts: moby/moby#21555."""

        def put(text: str) -> Fill:
            def fill(root: Path) -> None:
                write("etc/hosts", text)(root)
                os.utime(root / "etc/hosts", (1000, 1000))

            return fill

        self.agree(driver, plain, put("10.0.0.1"), put("10.0.0.2"), put("10.0.0.3"))

    def test_issue_chown_of_a_tree(self, driver: StorageDriver, plain: Path) -> None:
        """Changing only owners reaches every level: moby/moby#20240, #24913, #28391."""

        def chown(root: Path) -> None:
            for path in (root / "opt", *(root / "opt").rglob("*")):
                os.chown(path, 1, 1)

        self.agree(driver, plain, write("opt/a/b/file"), chown)

    def test_issue_rename_over_a_lower_file(self, driver: StorageDriver, plain: Path) -> None:
        """A file moved onto another, and one moved away: moby/moby#25409."""

        def start(root: Path) -> None:
            write("some/f1", "first")(root)
            write("some/f2", "second")(root)

        def move(root: Path) -> None:
            write("some/new", "third")(root)
            (root / "some/new").rename(root / "some/f1")
            (root / "some/f2").rename(root / "some/f3")

        self.agree(driver, plain, start, move)

    def test_issue_directory_mode_after_replacing(self, driver: StorageDriver, plain: Path) -> None:
        """A replaced directory has its new owner and mode, not the old one's: moby/moby#27298."""

        def replace(root: Path) -> None:
            clear(root / "d")
            (root / "d").mkdir(mode=0o700)
            os.chown(root / "d", 3, 3)

        self.agree(driver, plain, write("d/f"), lambda root: clear(root / "d"), lambda root: (root / "d").mkdir())
        self.layer(driver, "again", "layer0", replace)
        clear(plain / "d")
        write("d/f")(plain)
        replace(plain)
        assert self.seen(driver, "again") == describe(plain)

    def test_issue_128_layers(self, driver: StorageDriver) -> None:
        """Deep images fit: mount options end at one page, containers/storage#1159, containerd/containerd#2153."""
        parent = None
        for number in range(_DEEP):
            name = f"{number:064x}"  # as long as a chain id
            self.layer(driver, name, parent, write(f"file{number}", str(number)))
            parent = name
        with mounted(driver.prepare("web", parent)) as root:
            assert {path.name: path.read_text() for path in root.iterdir()} == {
                f"file{number}": str(number) for number in range(_DEEP)
            }
            write("file0", "changed")(root)
        assert self.seen(driver, parent)["file0"] != self.seen(driver, parent)["file1"]

    def test_issue_remove_a_deep_tree(self, driver: StorageDriver, state: Path) -> None:
        """Directories nested beyond PATH_MAX and the descriptor limit can be measured and removed."""
        with mounted(driver.prepare("web", None)) as root:
            here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            for _ in range(2000):
                os.mkdir("d", dir_fd=here)
                below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            os.close(here)
        driver.usage("web")
        driver.remove("web")
        self.clean(driver)
        assert self.known(driver) == {}
        assert not any("d" in files for _, files, _ in os.walk(state))
