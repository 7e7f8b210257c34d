"""Who a container runs as, against images that lie about their users."""

from __future__ import annotations

import os
import time

import pytest

from plugrun.errors import InvalidArgument
from plugrun.oci import user
from plugrun.rootfd import RootDir

PASSWD = """1000:x:5:5:a number for a name:/root:/bin/sh
4294967296:x:6:0:a number out of range:/root:/bin/sh
0x0:x:6:0:almost a number:/root:/bin/sh
1e3:x:6:0:another:/root:/bin/sh
-1:x:6:0:another:/root:/bin/sh
+1:x:6:0:another:/root:/bin/sh
 0:x:6:0:another:/root:/bin/sh
٣:x:6:0:another:/root:/bin/sh
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
alice:x:1000:100:Alice:/home/alice:/bin/sh
bob:x:1001:1001::relative:/bin/sh
"""
GROUP = """1002:x:0:
-1:x:0:
4294967296:x:0:
root:x:0:
wheel:x:10:root,alice
users:x:100:
audio:x:29:alice,bob
"""


@pytest.fixture
def image(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def resolve(image, who):
    with RootDir.at(image) as root:
        return user.resolve(root, who)


def numbers(image, who):
    found = resolve(image, who)
    return found.uid, found.gid, sorted(found.additional_gids)


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ("", (0, 0, [0, 10])),
        ("root", (0, 0, [0, 10])),
        ("0", (0, 0, [0, 10])),
        ("00", (0, 0, [0, 10])),
        ("alice", (1000, 100, [10, 29, 100])),
        ("1000", (1000, 100, [10, 29, 100])),  # not the entry *named* 1000
        ("alice:audio", (1000, 29, [29])),
        ("alice:5", (1000, 5, [5])),
        ("1:1002", (1, 1002, [1002])),  # not the group *named* 1002
        ("4242", (4242, 0, [0])),
        ("4242:4343", (4242, 4343, [4343])),
        ("2147483647", (2147483647, 0, [0])),
    ],
)
def test_numbers_and_names(image, who, expected):
    assert numbers(image, who) == expected


@pytest.mark.parametrize(
    "who",
    [
        "4294967296",  # an entry of this name is root's: CVE-2024-40635, CVE-2026-46680
        "2147483648",
        "4294967295",
        "9" * 5000,
        "-1",
        "+1",
        " 0",
        "0 ",
        "0\n",
        "0x0",
        "1e3",
        "1_000",
        "٣",  # a digit to int(), not to us
        "1000:",
        ":",
        ":0",
        "1:2:3",
        "1:4294967296",
        "1:-1",
        "nobody-here",
        "alice:nogroup-here",
        "al\0ice",
        "alice\nroot",
    ],
)
def test_everything_else_is_an_error(image, who):
    with pytest.raises(InvalidArgument) as caught:
        resolve(image, who)
    assert "\n" not in str(caught.value)


def test_home_is_absolute_and_has_a_default(image):
    assert resolve(image, "alice").home == "/home/alice"
    assert resolve(image, "bob").home == "/"
    assert resolve(image, "4242").home == "/"
    (image / "etc/passwd").unlink()
    assert resolve(image, "").home == "/"  # an image without a passwd file need not have a /root


def test_as_many_groups_as_lines(image):
    lines = [f"g{number}:x:{number}:alice" for number in range(1, 10_001)]
    (image / "etc/group").write_text("\n".join(lines) + "\n")
    assert numbers(image, "alice") == (1000, 100, list(range(1, 10_001)))


@pytest.mark.parametrize(
    "line",
    [
        b"mallory:x:0:0::/root:/bin/sh\r",
        b"mallory:x:0:0::/ro\tot:/bin/sh",
        b"mallory:x:0:0:/root:/bin/sh",
        b"mallory:x:0:0::/root:/bin/sh:more",
        b"mallory:x::0::/root:/bin/sh",
        b"mallory:x:-0:0::/root:/bin/sh",
        b"mallory:x: 0:0::/root:/bin/sh",
        "mallory:x:٣:0::/root:/bin/sh".encode(),
        b"mallory:x:0:4294967296::/root:/bin/sh",
        b"mallory:x:0:" + b"9" * 5000 + b"::/root:/bin/sh",
        b"mallory:x:0:0::/ro\0ot:/bin/sh",
    ],
)
def test_malformed_lines_say_nothing(image, line):
    good = b"eve:x:7:7::/eve:/bin/sh"
    (image / "etc/passwd").write_bytes(line + b"\n" + good + b"\n")
    assert numbers(image, "eve")[:2] == (7, 7)
    with pytest.raises(InvalidArgument, match="no user"):
        resolve(image, "mallory")


def test_a_home_that_is_not_utf8_does_not_break_the_specification(image):
    import json

    (image / "etc/passwd").write_bytes(b"eve:x:7:7::/\xff\xfe:/bin/sh\n")
    json.dumps(resolve(image, "7").home).encode().decode("ascii").encode("utf-8")
    resolve(image, "7").home.encode()


def test_without_files_only_numbers_work(tmp_path):
    assert numbers(tmp_path, "5:6") == (5, 6, [6])
    assert numbers(tmp_path, "") == (0, 0, [0])
    with pytest.raises(InvalidArgument):
        resolve(tmp_path, "root")


def hostile(kind, path):
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "sparse":
        with open(path, "wb") as stream:
            stream.truncate(2 << 30)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
        (path.parents[1] / "dev").mkdir()
        os.mknod(path.parents[1] / "dev/zero", 0o20666, os.makedev(1, 5))
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "lines":
        path.write_bytes(b"a:b\n" * 10_001)
    elif kind == "large":
        path.write_bytes(b"x" * (1 << 20) + b"\n")


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "sparse", "zero", "directory", "loop", "lines", "large"])
def test_files_that_would_hang_or_swamp_the_engine_are_refused_at_once(image, name, kind):
    hostile(kind, image / "etc" / name)
    started = time.monotonic()
    with pytest.raises(InvalidArgument):
        resolve(image, "alice")
    assert time.monotonic() - started < 2


def test_links_stay_inside_the_image(image, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("canary:x:0:0::/:/bin/sh\n")
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to(outside)
    with pytest.raises(InvalidArgument, match="no user"):
        resolve(image, "canary")
    (image / "etc/passwd").unlink()
    (image / "usr").mkdir()
    (image / "usr/passwd").write_text("inside:x:3:3::/:/bin/sh\n")
    (image / "etc/passwd").symlink_to("/usr/passwd")  # legal: image-relative
    assert numbers(image, "inside")[:2] == (3, 3)
