"""What the engine tells about itself and its containers: plugin ls, info, doctor, version, ps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess

import pytest

import sites
from fixtures.engine import PROGRAM
from plugrun import __version__

pytestmark = pytest.mark.root

DRIVERS = [
    ("btrfs", "storage"),
    ("overlay", "storage"),
    ("bridge", "network"),
    ("container", "network"),
    ("host", "network"),
    ("none", "network"),
]
BROKEN = "raise RuntimeError('made of glass')"
NEWER = """
@hookimpl
def plugrun_storage_drivers():
    return [DriverSpec("future", lambda state, options: None, lambda state: None, api=ApiVersion(9, 0))]
"""


@pytest.fixture
def site(tmp_path):
    """An empty site directory, and the environment that has the program look there too."""
    directory = tmp_path / "site"
    directory.mkdir(mode=0o755)
    return directory


@pytest.fixture
def with_site(plugrun, site):
    return lambda *arguments: plugrun(*arguments, env={"PYTHONPATH": str(site)})


@contextlib.contextmanager
def without(*programs):
    """Cover programs of this host with something that cannot be executed."""
    covered = [os.path.realpath(shutil.which(program)) for program in programs]
    for path in covered:
        subprocess.run(["mount", "--bind", "/dev/null", path], check=True)
    try:
        yield
    finally:
        for path in covered:
            subprocess.run(["umount", path], check=True)


def table(text):
    """Read a table as a person does: cells begin where the heading of their column begins."""
    head, *lines = text.splitlines()
    headings = [heading for heading in head.split("  ") if heading.strip()]
    starts = [head.index(heading.strip()) for heading in headings]
    ends = [*starts[1:], None]
    return [
        {name.strip(): line[start:end].strip() for name, start, end in zip(headings, starts, ends, strict=True)}
        for line in lines
    ]


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


# --- plugin ls ------------------------------------------------------------------------------------------------------


def test_plugin_ls_shows_every_bundled_driver(plugrun):
    rows = table(plugrun("plugin", "ls").ok().stdout)
    assert [(row["NAME"], row["KIND"]) for row in rows] == DRIVERS
    for row in rows:
        prefix = {"storage": "plugrun-storage-", "network": "plugrun-net-"}[row["KIND"]]
        assert (row["DIST"], row["VERSION"], row["API"]) == (prefix + row["NAME"], __version__, "1.0")
    usable = {row["NAME"]: row["USABLE"] for row in rows}
    assert usable["overlay"] == usable["host"] == usable["none"] == "yes"
    assert all(usable.values())  # a reason, where it is not yes


def test_a_broken_plugin_is_shown_and_the_others_work(plugrun, with_site, site, busybox):
    sites.install(site, "acme-broken", {"glass": "acme_broken"}, BROKEN, group="plugrun")
    sites.install(site, "acme-newer", {"future": "acme_newer"}, NEWER, group="plugrun")
    rows = {row["Name"]: row for row in objects(with_site("plugin", "ls", "--format", "json").ok().stdout)}
    assert rows["glass"]["Dist"] == "acme-broken"
    assert rows["glass"]["Usable"] == "cannot be imported: RuntimeError: made of glass"
    assert "9.0" in rows["future"]["Usable"]
    assert rows["overlay"]["Usable"] == "yes"
    assert "made of glass" in with_site("plugin", "ls").ok().stdout
    report = with_site("doctor")
    assert report.code == 0
    assert "acme-broken 1.0: cannot be imported: RuntimeError: made of glass" in report.stdout
    assert with_site("info", "-f", "{{json .Drivers}}").ok().stdout.count("made of glass") == 1
    assert with_site("run", "--rm", busybox, "echo", "fine").ok().stdout == "fine\n"
    refused = with_site("run", "--rm", "--storage", "future", busybox, "true")
    assert refused.code == 125
    assert "9.0" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_plugin_that_others_could_have_written_is_not_imported(with_site, site):
    sites.install(site, "acme-evil", {"evil": "acme_evil"}, "import os; os._exit(66)", group="plugrun")
    assert with_site("plugin", "ls").code == 66  # what it would do
    site.chmod(0o777)
    assert "can be changed by other users" in with_site("plugin", "ls").ok().stdout


def test_a_third_partys_driver_is_listed(with_site, site):
    sites.install(site, "acme-good", {"good": "acme_good"}, sites.GOOD, version="2.5", group="plugrun")
    row = next(row for row in table(with_site("plugin", "ls").ok().stdout) if row["NAME"] == "good")
    assert (row["DIST"], row["VERSION"], row["USABLE"]) == ("acme-good", "2.5", "yes")


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_finds_what_containers_need(plugrun):
    report = plugrun("doctor").ok().stdout
    rows = {line.split("   ")[1].strip(): line.split()[0] for line in report.splitlines()[1:]}
    assert rows["monitor"] == rows["storage driver overlay"] == rows["network driver none"] == "ok"
    assert "fail" not in rows.values()


@pytest.mark.parametrize(
    ("programs", "missing", "fix"),
    [(["conmon"], "monitor", "apt-get install conmon"), (["crun", "runc"], "runtime", "apt-get install crun")],
)
def test_doctor_fails_without_the_essential_and_names_the_fix(plugrun, busybox, programs, missing, fix):
    with without(*programs):
        report = plugrun("doctor")
        refused = plugrun("run", "--rm", busybox, "true")
    assert report.code == 1
    (line,) = [line for line in report.stdout.splitlines() if line.startswith("fail")]
    assert line.split()[1] == missing
    assert fix in line
    assert refused.code == 125
    assert fix in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert plugrun("ps", "-aq").stdout == ""


def test_doctor_does_without_what_is_optional(plugrun):
    with without("catatonit", "runc"):
        report = plugrun("doctor").ok().stdout
    assert "no program for --init" in report or "/tini" in report
    assert "runc is not installed" in report


def test_the_callers_path_does_not_count(plugrun):
    assert plugrun("doctor", env={"PATH": "/nowhere"}).code == 0


# --- info, version --------------------------------------------------------------------------------------------------


def test_info_counts_and_names(plugrun, busybox, private_root):
    plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok()
    plugrun("create", busybox, "true").ok()
    facts = json.loads(plugrun("info", "--format", "json").ok().stdout)
    assert (facts["Containers"], facts["ContainersRunning"], facts["Images"]) == (2, 1, 1)
    assert (facts["Root"], facts["RunRoot"]) == (str(private_root.root), str(private_root.run_root))
    assert facts["Drivers"]["storage overlay"] == "yes"
    assert set(facts["Runtimes"]) == {"crun", "runc"}
    lines = plugrun("info").ok().stdout.splitlines()
    assert f"Root: {private_root.root}" in lines
    assert "  storage overlay: yes" in lines
    assert plugrun("info", "-f", "{{.Kernel}}").ok().line == os.uname().release


def test_version(plugrun):
    assert plugrun("version").ok().stdout == f"Version: {__version__}\nPluginAPI: 1.0\n"
    assert plugrun("version", "-f", "{{.Version}}").ok().line == __version__
    for option in ("--version", "-v"):
        done = subprocess.run([PROGRAM, option], capture_output=True, text=True, check=True)
        assert done.stdout == f"plugrun version {__version__}\n"


# --- ps -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(plugrun, busybox):
    """Ids of a container that runs, one that has ended, and the newest, which was never started."""
    web = plugrun("run", "-d", "--name", "web", "-l", "tier=front", busybox, "sleep", "1000").ok().line
    plugrun("run", "--name", "ended", busybox, "sh", "-c", "exit 3 # and a long line of a script")
    fresh = plugrun("create", "--name", "fresh", busybox, "true").ok().line
    return web, plugrun("inspect", "-f", "{{.Id}}", "ended").ok().line, fresh


def test_ps_shows_what_runs_and_with_a_everything(plugrun, three):
    (row,) = table(plugrun("ps").ok().stdout)
    assert list(row) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "STORAGE", "NETWORK", "NAMES"]
    assert (row["CONTAINER ID"], row["IMAGE"], row["COMMAND"]) == (three[0][:12], "busybox", '"sleep 1000"')
    assert (row["STORAGE"], row["NETWORK"], row["NAMES"]) == ("overlay", "none", "web")
    assert row["CREATED"].endswith(" ago")
    assert row["STATUS"].startswith("Up ")
    rows = table(plugrun("ps", "-a").ok().stdout)
    assert [row["NAMES"] for row in rows] == ["fresh", "ended", "web"]  # newest first
    assert rows[0]["STATUS"] == "Created"
    assert rows[1]["STATUS"].startswith("Exited (3) ")
    assert rows[1]["COMMAND"] == '"sh -c exit 3 # and …"'


def test_ps_shortens_unless_told_otherwise(plugrun, three):
    assert plugrun("ps", "-aq").ok().stdout.split() == [one[:12] for one in reversed(three)]
    assert plugrun("ps", "-q", "--no-trunc").ok().line == three[0]
    whole = table(plugrun("ps", "-a", "--no-trunc").ok().stdout)[1]
    assert whole["CONTAINER ID"] == three[1]
    assert whole["COMMAND"] == '"sh -c exit 3 # and a long line of a script"'


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["-l"], ["fresh"]),
        (["-n", "2"], ["fresh", "ended"]),
        (["-n", "0"], []),
        (["-n", "9"], ["fresh", "ended", "web"]),
        (["-a", "-l"], ["fresh"]),
    ],
)
def test_ps_of_the_newest(plugrun, three, options, names):
    assert plugrun("ps", *options, "--format", "{{.Names}}").ok().stdout.split() == names


def test_ps_formats(plugrun, three):
    (row,) = objects(plugrun("ps", "--format", "json").ok().stdout)
    assert (row["ID"], row["Names"], row["State"], row["Labels"]) == (three[0][:12], "web", "running", "tier=front")
    assert plugrun("ps", "--format", "{{.ID}}\\t{{.Image}}").ok().line == f"{three[0][:12]}\tbusybox"
    assert plugrun("ps", "--format", "{{json .Names}}").ok().line == '"web"'
    assert plugrun("ps", "--format", "table {{.Names}}\\t{{.State}}").ok().stdout == "NAMES   STATE\nweb     running\n"
    assert plugrun("ps", "--format", "table").ok().stdout.startswith("CONTAINER ID ")


@pytest.mark.parametrize(
    ("command", "template"),
    [
        (["ps"], "{{.Nope}}"),
        (["ps"], "table {{.Nope}}"),
        (["ps"], "{{range .}}"),
        (["images"], "{{.Nope}}"),
        (["plugin", "ls"], "{{.Nope}}"),
        (["info"], "{{.Nope}}"),
        (["info"], "{{.Drivers.Nope}}"),
        (["version"], "{{.Nope}}"),
        (["inspect", "web"], "{{.State.Nope}}"),
    ],
)
def test_formats_refuse_what_they_do_not_know(plugrun, three, command, template):
    refused = plugrun(*command, "--format", template)
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("plugrun: ")
    assert refused.stderr.count("\n") == 1
    assert "Nope" in refused.stderr or "has no {{end}}" in refused.stderr


@pytest.mark.parametrize("template", ["{{range .}}", "table {{range .}}", "{{.Names"])
def test_templates_are_checked_even_where_nothing_is_listed(plugrun, template):
    refused = plugrun("ps", "--format", template)
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr.count("\n") == 1


# --- Help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [[], ["container"], ["image"], ["plugin"]])
def test_a_group_alone_shows_its_help_and_nothing_else(group):
    alone, asked = (
        subprocess.run([PROGRAM, *group, *options], capture_output=True, text=True, check=True)
        for options in ([], ["--help"])
    )
    assert alone.stdout.strip() == asked.stdout.strip()
    assert alone.stderr == ""
