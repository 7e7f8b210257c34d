"""Commands on images that are there: names, history, what occupies the disk, and what can go."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess

import pytest

from images import archives
from images.archives import Parts
from plugrun import disk
from terminals import Terminal, until

pytestmark = pytest.mark.root

HISTORY = [
    {"created": "2020-01-01T00:00:00Z", "created_by": "ADD base", "comment": "from scratch"},
    {"created": "2020-01-02T00:00:00Z", "created_by": "ENV\tA=" + "x" * 60, "empty_layer": True},
    {"created": "2020-01-03T00:00:00.5Z", "created_by": "RUN top"},
]


@pytest.fixture
def app(plugrun, tmp_path):
    """An image of two layers and three steps, named ``app:1``."""
    return load(plugrun, tmp_path, Parts(name="app:1", config={"created": "2020-01-03T00:00:00Z", "history": HISTORY}))


def load(plugrun, tmp_path, image):
    plugrun("load", "-i", archives.write_tar(tmp_path / "archive.tar", image.docker())).ok()
    return image


def short(image):
    return image.id.removeprefix("sha256:")[:12]


def tags(plugrun, *options):
    return plugrun("images", "--format", "{{.Repository}}:{{.Tag}}", *options).ok().stdout.split()


# --- Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [[], ["image"]])
def test_tag_and_untag(plugrun, app, group):
    assert plugrun(*group, "tag", "app:1", "localhost:5000/team/app").ok().stdout == ""
    plugrun(*group, "tag", short(app), "app:2").ok()
    assert sorted(tags(plugrun)) == ["app:1", "app:2", "localhost:5000/team/app:latest"]
    assert plugrun(*group, "untag", "app:1", "app:2").ok().stdout == ""
    plugrun(*group, "untag", "localhost:5000/team/app:latest").ok()
    assert tags(plugrun) == ["<none>:<none>"]
    assert plugrun("images", "-q", "--no-trunc", "-f", "dangling=true").ok().line == app.id


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["tag", "absent", "x"], 1, "no image 'absent'; plugrun images lists those there are"),
        (["tag", "app", "x"], 1, "no image 'app'; there is app:1"),
        (["push", "app:2"], 1, "no image 'app:2'; there is app:1"),
        (["tag", "app:1", "APP"], 1, "repository names are lower case; write app"),
        (["tag", "app:1", "app@sha256:" + "0" * 64], 1, "has a digest"),
        (["tag", "app:1"], 125, "Missing argument"),
        (["untag", "app:1", "absent"], 1, "no image is named 'absent'; plugrun images lists"),
        (["history", "absent"], 1, "no image 'absent'"),
        (["save", "absent"], 1, "no image 'absent'"),
        (["save"], 125, "Missing argument"),
        (["save", "--format", "zip", "app:1"], 1, "--format 'zip' is unknown; use docker-archive or oci-archive"),
        (["save", "--platform", "x", "app:1"], 1, "platform 'x' is not os/architecture[/variant]"),
        (["save", "--platform", "linux/vax", "app:1"], 1, "there is none for linux/vax here"),
        (["save", "-o", "/nosuch/x", "app:1"], 1, "cannot write file /nosuch/x: No such file or directory"),
        (["image", "prune"], 1, "standard input is not a terminal; use --force (-f)"),
        (["image", "prune", "-f", "--filter", "dangling=true"], 1, "unknown filter 'dangling=true'; use until=TIME"),
        (["image", "prune", "-f", "--filter", "until=never"], 1, "'never' is neither a time nor a duration"),
        (["images", "--tree", "-q"], 1, "--tree cannot be combined with --quiet"),
        (["images", "--tree", "--format", "json"], 1, "--tree cannot be combined with --format"),
        (["images", "-f", "since=absent"], 1, "no image 'absent'"),
        (["images", "-f", "reference=["], 1, "is no pattern"),
        (["system", "df", "-v", "--format", "json"], 1, "--verbose cannot be combined with --format 'json'"),
        (["system", "df", "--format", "{{.Nope}}"], 1, "no field 'Nope'"),
    ],
)
def test_what_cannot_be_is_one_line(plugrun, app, words, code, why):
    refused = plugrun(*words)
    assert refused.code == code
    assert why in refused.stderr
    assert (refused.stderr.count("\n"), refused.stdout) == (1, "")


def test_rmi_forced_does_not_mind_what_is_not_there(plugrun, app):
    assert plugrun("rmi", "absent").code == 1
    forced = plugrun("rmi", "-f", "absent", "app:1").ok()
    assert "no image 'absent'" in forced.stderr
    assert forced.stdout.splitlines() == ["Untagged: app:1", f"Deleted: {app.id}"]
    assert plugrun("rmi", "-f", "APP").code == 1


def test_rmi_takes_a_shared_name_only_and_knows_no_prune(plugrun, app):
    plugrun("tag", "app:1", "app:2").ok()
    assert plugrun("rmi", "--no-prune", "app:1").ok().line == "Untagged: app:1"
    assert tags(plugrun) == ["app:2"]


# --- Listing ---------------------------------------------------------------------------------------------------------


def test_images_can_be_filtered_by_age_and_by_each_other(plugrun, app, tmp_path):
    load(plugrun, tmp_path, Parts(name="old:1", config={"created": "2019-01-01T00:00:00Z"}))
    assert tags(plugrun) == ["app:1", "old:1"]
    assert tags(plugrun, "-f", "before=app:1") == ["old:1"]
    assert tags(plugrun, "-f", f"since={short(app)}") == []
    assert tags(plugrun, "-f", "until=2019-06-01") == ["old:1"]
    assert tags(plugrun, "-f", "reference=app", "-f", "reference=o*:1") == ["app:1", "old:1"]
    assert tags(plugrun, "a*") == ["app:1"]


def test_images_say_what_is_shared_and_used(plugrun, busybox, tmp_path):
    shared = archives.layer({"shared": b"s" * 20_000})
    for number in "12":
        load(plugrun, tmp_path, Parts([shared, archives.layer({number: b"n" * 4000})], f"app:{number}"))
    plugrun("create", "--net", "none", busybox).ok()
    template = "{{.Repository}}:{{.Tag}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}}"
    found = dict(line.split(" ", 1) for line in plugrun("images", "--format", template).ok().stdout.splitlines())
    assert found["app:1"] == found["app:2"]
    assert re.fullmatch(r"30\.7kB 1[01]\.\dkB 0", found["app:1"])  # tar(5) in records of 10240 bytes
    assert found["busybox:latest"].startswith("0B ")
    assert found["busybox:latest"].endswith(" 1")


def test_a_tree_shows_names_layers_and_containers(plugrun, busybox, app):
    plugrun("tag", busybox, "bb:1").ok()
    write = "dd if=/dev/zero of=/file bs=1k count=100 2>/dev/null"
    plugrun("run", "--name", "web", "--net", "none", busybox, "sh", "-c", write).ok()
    lines = [re.split(r" {3,}", line) for line in plugrun("images", "--tree").ok().stdout.splitlines()]
    assert lines[0] == ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"]
    columns = [line[0] for line in lines[1:]]
    assert columns == [
        "busybox:latest", "bb:1", "├─ layer 1", "└─ container web", "app:1", "├─ layer 1", "└─ layer 2",
    ]  # fmt: skip
    busybox_line, _, layer, container, app_line, app_layer, _ = lines[1:]
    assert busybox_line[4] == "in use"
    assert len(app_line) == 4
    assert app_layer[2] == "not unpacked"
    assert layer[2][-2:] == "MB"
    assert re.fullmatch(r"10\dkB", container[2])
    assert container[-1] == "exited"
    assert plugrun("image", "ls", "--tree", "app").ok().stdout.count("\n") == 4
    assert app.id in plugrun("images", "--tree", "--no-trunc", "app").ok().stdout
    plugrun("untag", "app:1").ok()
    assert "<untagged>" in plugrun("images", "--tree").ok().stdout


# --- History ---------------------------------------------------------------------------------------------------------


def test_history_shows_the_last_step_first(plugrun, app):
    table = plugrun("history", "app:1").ok().stdout.splitlines()
    assert re.split(r" {2,}", table[0]) == ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    assert table[1].startswith(short(app))
    assert [line.split()[0] for line in table[2:]] == ["<missing>", "<missing>"]
    rows = [json.loads(line) for line in plugrun("history", "--format", "json", "app:1").ok().stdout.splitlines()]
    assert [row["CreatedBy"] for row in rows] == ["RUN top", "ENV A=" + "x" * 38 + "…", "ADD base"]
    assert [row["Comment"] for row in rows] == ["", "", "from scratch"]
    assert rows[1]["Size"] == "0B"
    exact = plugrun("history", "--human=false", "--no-trunc", "app:1").ok().stdout.splitlines()
    assert re.split(r" {3,}", exact[0])[1] == "CREATED AT"
    assert exact[1].startswith(f"{app.id}   2020-01-03T00:00:00.500000000Z   RUN top")
    assert exact[1].rstrip().endswith(f" {len(app.layers[1])}")
    assert exact[3].split()[-3:] == [str(len(app.layers[0])), "from", "scratch"]
    assert "x" * 60 in exact[2]
    assert plugrun("image", "history", "-q", "app:1").ok().stdout.split() == [short(app), "<missing>", "<missing>"]


@pytest.mark.parametrize(
    ("history", "sizes"),
    [([], [True, True]), (HISTORY[:1], [True, True]), ([*HISTORY, HISTORY[0]], [False, True, False, True])],
    ids=["none", "too short", "too long"],
)
def test_a_history_that_does_not_fit_the_layers(plugrun, tmp_path, history, sizes):
    load(plugrun, tmp_path, Parts(name="app:1", config={"history": history}))
    found = plugrun("history", "--format", "{{.Size}}", "app:1").ok().stdout.split()
    assert [size != "0B" for size in found] == sizes


# --- Saving ----------------------------------------------------------------------------------------------------------


def test_save_refuses_a_terminal(plugrun, app):
    with Terminal(plugrun.argv("save", "app:1")) as terminal:
        terminal.expect("an archive is not for a terminal; name a file with --output (-o)")
        assert terminal.end() == 1


def test_save_writes_to_a_pipe_a_file_and_a_device(plugrun, app, tmp_path):
    done = subprocess.run(plugrun.argv("save", "app:1"), capture_output=True, check=True)
    assert done.stderr == b""
    saved = tmp_path / "saved"
    saved.write_text("what was there")
    (tmp_path / "link").symlink_to(saved)
    assert plugrun("save", "-o", str(tmp_path / "link"), "app:1").ok().stdout == ""
    assert saved.read_bytes() == done.stdout
    assert (tmp_path / "link").is_symlink()
    device = tmp_path / "null"  # never the machine's own: root's mistakes replace it for everybody
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    plugrun("image", "save", "-o", str(device), "app:1").ok()
    assert device.is_char_device()
    (tmp_path / "out").symlink_to("/proc/self/fd/1")  # as /dev/stdout is
    piped = subprocess.run(plugrun.argv("save", "-o", str(tmp_path / "out"), "app:1"), capture_output=True, check=True)
    assert piped.stdout == done.stdout
    assert (tmp_path / "out").is_symlink()
    with open("/dev/full", "wb") as full:
        failed = subprocess.run(plugrun.argv("save", "app:1"), stdout=full, stderr=subprocess.PIPE, check=False)
    assert failed.returncode == 1
    assert failed.stderr == b"plugrun: cannot write standard output: No space left on device\n"


def test_save_does_not_write_over_a_directory(plugrun, app, tmp_path):
    refused = plugrun("save", "-o", str(tmp_path), "app:1")
    assert (refused.code, refused.stderr) == (1, f"plugrun: cannot write file {tmp_path}: Is a directory\n")


def test_save_to_a_reader_who_leaves_ends_like_sigpipe(plugrun, app):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(plugrun.argv("save", "app:1"), stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_save_that_is_stopped_leaves_the_old_file(plugrun, app, tmp_path, number):
    place = tmp_path / "place"
    place.mkdir()
    (place / "saved").write_text("what was there")
    lock = plugrun.roots.root / "images/ingest/lock"
    waits = (
        "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        ["python3", "-c", waits, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with subprocess.Popen(plugrun.argv("save", "-o", str(place / "saved"), "app:1")) as saving:
            until(lambda: len(os.listdir(place)) == 2)  # the control
            saving.send_signal(number)
            assert saving.wait(30) == 128 + number
        holder.stdin.close()
    assert os.listdir(place) == ["saved"]
    assert (place / "saved").read_text() == "what was there"


# --- Pruning ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dangling(plugrun, app, tmp_path):
    """``app:1``, and an image that has lost that name."""
    old = load(plugrun, tmp_path, Parts(name="app:2", config={"author": "old", "config": {"Labels": {"keep": "no"}}}))
    plugrun("untag", "app:2").ok()
    return old


def test_prune_deletes_dangling_images_only(plugrun, app, dangling):
    pruned = plugrun("image", "prune", "-f").ok()
    assert pruned.stdout.startswith(f"Deleted Images:\ndeleted: {dangling.id}\n\nTotal reclaimed space: ")
    assert tags(plugrun) == ["app:1"]
    assert plugrun("image", "prune", "--force").ok().line == "Total reclaimed space: 0B"


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        (["label=keep"], 1),
        (["label=keep=yes"], 2),
        (["label!=keep"], 2),
        (["until=1h"], 1),
        (["until=1970-01-01"], 2),
        (["label=keep", "until=1970-01-01"], 2),
    ],
)
def test_prune_can_be_limited(plugrun, dangling, filters, left):
    plugrun("image", "prune", "-f", *(word for one in filters for word in ("--filter", one))).ok()
    assert len(tags(plugrun)) == left


def test_prune_never_deletes_what_containers_are_made_from(plugrun, busybox, dangling):
    plugrun("create", "--name", "web", "--net", "none", busybox, "echo", "still here").ok()
    plugrun("untag", busybox).ok()
    plugrun("image", "prune", "-f").ok()
    plugrun("image", "prune", "-a", "-f").ok()
    assert tags(plugrun) == ["<none>:<none>"]
    assert plugrun("start", "-a", "web").ok().line == "still here"
    plugrun("rm", "web").ok()
    assert "deleted: " in plugrun("image", "prune", "-f").ok().stdout
    assert list((plugrun.roots.root / "storage").glob("*/committed/*")) == []


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y", 0, 1), ("YES", 0, 1), ("n", 1, 2), ("", 1, 2), ("yo", 1, 2)]
)
def test_prune_asks_on_a_terminal(plugrun, dangling, answer, code, left):
    with Terminal(plugrun.argv("image", "prune")) as terminal:
        terminal.expect("WARNING! This will remove all dangling images, and what interrupted pulls have left.")
        terminal.expect("Are you sure you want to continue? [y/N] ")
        terminal.type(f"{answer}\r")
        terminal.expect("Total reclaimed space: " if code == 0 else "plugrun: nothing was removed")
        assert terminal.end() == code
    assert len(tags(plugrun)) == left


def test_prune_says_what_it_is_about_to_do(plugrun, dangling):
    with Terminal(plugrun.argv("image", "prune", "-a", "--filter", "label=\x1b[2J")) as terminal:
        terminal.expect("remove all images without at least one container associated to them")
        terminal.expect("that fit label=\\x1b[2J.")
        terminal.expect("[y/N] ")
        terminal.type("\x04")
        terminal.expect("\r\nplugrun: nothing was removed")
        assert terminal.end() == 1
    assert len(tags(plugrun)) == 2


def test_an_interrupt_at_the_question_leaves_the_shell_a_line_of_its_own(plugrun, dangling):
    with Terminal(plugrun.argv("image", "prune")) as terminal:
        terminal.expect("[y/N] ")
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.screen.endswith("^C\r\n")
    assert len(tags(plugrun)) == 2


# --- Disk usage ------------------------------------------------------------------------------------------------------


def test_system_df_without_anything(plugrun):
    table = plugrun("system", "df").ok().stdout.splitlines()
    assert re.split(r" {3,}", table[0]) == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert [re.split(r" {3,}", line) for line in table[1:]] == [
        ["Images", "0", "0", "0B", "0B"],
        ["Unpacked Layers", "0", "0", "0B", "0B"],
        ["Containers", "0", "0", "0B", "0B"],
        ["Snapshots", "0", "0", "0B", "0B"],
        ["Local Volumes", "0", "0", "0B", "0B"],
        ["Partial Downloads", "0", "0", "0B", "0B"],
    ]


def test_system_df_in_detail(plugrun, busybox, app):
    plugrun("create", "--name", "web", "--net", "none", busybox).ok()
    detail = plugrun("system", "df", "-v").ok().stdout
    headings = re.findall(r"^(.*) space usage:$", detail, re.MULTILINE)
    assert headings == ["Images", "Unpacked layers", "Containers", "Snapshots", "Local Volumes", "Partial downloads"]
    assert detail.endswith("TOTAL   SIZE\n0       0B\n")
    assert re.search(r"^app +1 .* 0$", detail, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{12} +overlay +[0-9.]+MB +1 +yes$", detail, re.MULTILINE)
    assert re.search(r"^[0-9a-f]{12} +busybox .* web$", detail, re.MULTILINE)


def test_layers_of_an_image_that_was_removed_by_force_stay_in_use(plugrun, busybox):
    plugrun("create", "--name", "web", "--net", "none", busybox).ok()
    plugrun("rmi", "-f", busybox).ok()
    totals = plugrun("system", "df", "--format", "{{.Type}} {{.Active}} {{.Reclaimable}}").ok().stdout.splitlines()
    assert totals[:2] == ["Images 0 0B", "Unpacked Layers 1 0B (0%)"]


def test_only_what_is_asked_for_is_measured(plugrun, busybox, app):
    plugrun("create", "--name", "web", "--net", "none", busybox).ok()
    opened = plugrun.engine()
    try:
        images = {image.id: image for image in opened.images.list()}
        found = disk.measure(opened, only=[images[app.id]])
        assert (found.layers, found.containers) == ([], [])
        del images[app.id]
        found = disk.measure(opened, only=list(images.values()))
        assert (len(found.layers), [record.name for record, _ in found.containers]) == (1, ["web"])
    finally:
        opened.close()


def test_inspect_shows_who_made_an_image_and_how_it_is_checked(plugrun, tmp_path):
    check = {"Test": ["CMD", "true"], "Interval": 1, "Timeout": 2, "StartPeriod": 3, "StartInterval": 4, "Retries": 5}
    load(plugrun, tmp_path, Parts(name="app:1", config={"author": "me", "config": {"Healthcheck": check}}))
    template = "{{.Author}} {{index .RepoTags 0}} {{json .Config.Healthcheck}}"
    assert plugrun("image", "inspect", "-f", template, "app:1").ok().line == f"me app:1 {json.dumps(check)}"
    digest = plugrun("image", "inspect", "-f", "{{index .RepoDigests 0}}", "app:1").ok().line
    assert re.fullmatch(r"app@sha256:[0-9a-f]{64}", digest)
