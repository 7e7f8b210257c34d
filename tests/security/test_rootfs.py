"""More hostile root file systems: mount points, device nodes, and what a container does to its own files."""

from __future__ import annotations

import tarfile

import pytest

from security import images
from security.images import Node, link

pytestmark = pytest.mark.root


def run(plugrun, *arguments, **options):
    return plugrun("run", "--rm", "--net", "none", *arguments, **options)


def test_an_imported_file_system_is_checked_like_any_other(plugrun, canary, tmp_path):
    (tmp_path / "root.tar").write_bytes(images.layer({"dev": link(str(canary))}))
    plugrun("import", str(tmp_path / "root.tar"), "evil").ok()
    result = run(plugrun, "evil", "true")
    assert result.code == 125
    assert "/dev is a symbolic link" in result.stderr


@pytest.mark.parametrize("destination", ["/v", "/v/deep/er"])
@pytest.mark.parametrize("target", ["/run/canary", "../../../run/canary", "/run/./canary/../canary/new"])
def test_mount_points_behind_links_are_made_inside(plugrun, canary, evil, tmp_path, destination, target):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "mine").write_text("mine\n")
    image = evil({"v": link(target)})
    assert run(plugrun, "-v", f"{tmp_path}/volume:{destination}", image, "ls", destination).ok().stdout == "mine\n"
    run(plugrun, "--tmpfs", destination, image, "sh", "-c", f"echo > {destination}/new").ok()


def test_a_container_cannot_make_the_engine_wait_for_its_passwd(plugrun, evil):
    image = evil({"etc": None, "etc/passwd": b"web:x:33:33::/:/bin/sh\n"})
    plugrun("run", "-d", "--net", "none", "--name", "box", image, "sleep", "1000").ok()
    assert plugrun("exec", "--user", "web", "box", "id", "-u").ok().line == "33"
    plugrun("exec", "box", "sh", "-c", "rm /etc/passwd && mkfifo /etc/passwd").ok()
    result = plugrun("exec", "--user", "web", "box", "id", "-u", timeout=20)
    assert result.code == 1
    assert "/etc/passwd" in result.stderr


@pytest.mark.parametrize("target", ["/run/canary/passwd", "../../../run/canary/passwd"])
def test_a_container_cannot_lead_the_engine_to_the_hosts_passwd(plugrun, canary, evil, target):
    image = evil({"etc": None, "etc/passwd": b"web:x:33:33::/:/bin/sh\n"})
    plugrun("run", "-d", "--net", "none", "--name", "box", image, "sleep", "1000").ok()
    plugrun("exec", "box", "sh", "-c", f"rm /etc/passwd && ln -s {target} /etc/passwd").ok()
    assert (canary / "passwd").read_text().startswith("host:")
    result = plugrun("exec", "--user", "host", "box", "id", "-u")
    assert (result.code, result.stdout) == (1, "")


# --- Device nodes ------------------------------------------------------------------------------------------------


LOOP = Node(tarfile.BLKTYPE, major=7, minor=0)  # where a disk of the host may be
KMSG = Node(tarfile.CHRTYPE, major=1, minor=11)  # what the kernel says, and anybody may write


def test_device_nodes_of_an_image_do_not_open(plugrun, evil, runtime_name):
    image = evil({"loop": LOOP, "kmsg": KMSG})
    for node in ("/loop", "/kmsg"):
        shut = run(plugrun, "--runtime", runtime_name, image, "sh", "-c", f": < {node}")
        assert shut.code != 0, node
        assert "not permitted" in shut.stderr, node
        run(plugrun, "--runtime", runtime_name, "--privileged", image, "sh", "-c", f": < {node}").ok()


def test_device_nodes_that_a_container_makes_do_not_open(plugrun, evil, runtime_name):
    image = evil({"nodes": None})
    make = f"mknod /nodes/disk b {LOOP.major} {LOOP.minor}"
    assert "not permitted" in run(plugrun, "--runtime", runtime_name, image, "sh", "-c", make).stderr
    attack = f"{make} && ls /nodes && : < /nodes/disk"
    made = run(plugrun, "--runtime", runtime_name, "--cap-add", "MKNOD", image, "sh", "-c", attack)
    assert made.stdout == "disk\n"
    assert made.code != 0
    assert "not permitted" in made.stderr
    run(plugrun, "--runtime", runtime_name, "--privileged", image, "sh", "-c", attack).ok()
