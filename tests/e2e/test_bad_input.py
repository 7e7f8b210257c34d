"""What users mistype: one clear line, Docker's exit code, and nothing half-made is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from e2e.refusals import assert_refused, made, nothing_made
from fixtures.engine import Cli, Roots

pytestmark = pytest.mark.root

LONG = "x" * 300


@pytest.fixture(scope="module")
def plugrun(tmp_path_factory):
    """One engine for all of these tests: none may change it."""
    run_root = Path(tempfile.mkdtemp(prefix="t", dir="/run"))
    cli = Cli(Roots(tmp_path_factory.mktemp("engine") / "root", run_root))
    yield cli
    cli.remove_all()
    shutil.rmtree(run_root)


@pytest.fixture(scope="module")
def busybox(plugrun, busybox_archive):
    plugrun("load", "-i", str(busybox_archive)).ok()
    plugrun("run", "--rm", "busybox", "true").ok()  # the control, which unpacks it too
    return "busybox"


DRIVERS = {
    "unknown storage driver": (["--storage", "nosuch"], ["no storage driver 'nosuch'", "installed: overlay", "btrfs"]),
    "storage driver by path": (["--storage", "../x"], ["no storage driver '../x'"]),
    "unknown network driver": (
        ["--net", "nosuch"],
        ["no network or network driver 'nosuch'", "bridge, container, host, none"],
    ),
    "storage driver without its file system": (
        ["--storage", "btrfs"],
        ["'btrfs' cannot be used here", "is not on btrfs", "storage create"],
    ),
    "network driver without a target": (["--net", "container"], ["needs the name of a container", "container:NAME"]),
    "network of a container that is missing": (["--net", "container:web"], ["no such container: web"]),
    "network at a path that is missing": (["--net", "ns:/nosuch"], ["no network namespace at /nosuch"]),
    "network at a path of something else": (["--net", "ns:/etc/passwd"], ["/etc/passwd is no network namespace"]),
    "network driver without targets": (["--net", "none:web"], ["no network or network driver 'none:web'"]),
    "option of a driver without any": (["--storage-opt", "a=b"], ["'overlay' takes no options, got 'a=b'"]),
    "driver option without a value": (["--net-opt", "a"], ["--net-opt 'a' is not KEY=VALUE"]),
    "unknown runtime": (["--runtime", "nosuch"], ["no OCI runtime 'nosuch'", "installed: crun"]),
    "runtime by relative path": (["--runtime", "./crun"], ["'./crun' is a relative path"]),
    "runtime by a path to nothing": (["--runtime", "/nosuch/crun"], ["no OCI runtime '/nosuch/crun'"]),
    "runtime that is a directory": (["--runtime", "/etc"], ["no OCI runtime '/etc'"]),
    "runtime that is not executable": (["--runtime", "/etc/passwd"], ["no OCI runtime '/etc/passwd'"]),
}
NAMES = {
    "empty name": (["--name", ""], ["'' cannot be a container name"]),
    "short name": (["--name", "x"], ["'x' cannot be a container name", "2 to 128"]),
    "path as name": (["--name", "../x"], ["'../x' cannot be a container name"]),
    "name with a line break": (["--name", "a\nb"], [r"'a\nb' cannot be a container name"]),
    "name with a line break at its end": (["--name", "ab\n"], [r"'ab\n' cannot be a container name"]),
    "long name": (["--name", LONG], [f"'{LONG}' cannot be a container name"]),
    "unicode name": (["--name", "ünï"], ["'ünï' cannot be a container name"]),
    "name that moves the cursor": (["--name", "a\x1b[2J"], [r"'a\x1b[2J' cannot be"]),
    "host name with a line break": (["--hostname", "a\nb"], [r"'a\nb' cannot be a host name"]),
    "empty host name": (["--hostname", ""], ["'' cannot be a host name"]),
    "label without a key": (["--label", "=x"], ["'=x' has no key"]),
}
VALUES = {
    "address that is none": (["--net", "none", "--ip", "x"], ["--ip 'x' is no IPv4 address"]),
    "address where there are none": (["--net", "none", "--ip", "10.0.0.5"], ["network none gives no addresses"]),
    "address for one of several networks": (["--net", "none", "--net", "host", "--ip", "10.0.0.5"], ["which of the 2"]),
    "networks that cannot be together": (["--net", "none", "--net", "host"], ["none cannot be used together"]),
    "network twice": (["--net", "none", "--net", "none"], ["network none is given twice"]),
    "unknown key of a network": (["--net", "nmae=none"], ["unknown key 'nmae'", "did you mean name?"]),
    "hardware address": (["--mac-address", "x"], ["--mac-address 'x' is no hardware address"]),
    "alias": (["--network-alias", "a\nb"], [r"--network-alias 'a\nb' cannot be a name"]),
    "port": (["-p", "x"], ["--publish 'x': 'x' is no port"]),
    "port of the host twice": (["-p", "80:80", "-p", "80:81"], ["'80:80' and '80:81' want the same port 80"]),
    "port where none is published": (["--net", "none", "-p", "80:80"], ["network none publishes no ports"]),
    "exposed port": (["--expose", "x"], ["--expose 'x': 'x' is no port"]),
    "name server": (["--dns", "x"], ["--dns 'x' is no IP address"]),
    "domain to search": (["--dns-search", "a b"], ["--dns-search 'a b' is no domain"]),
    "resolver option": (["--dns-opt", "a b"], ["--dns-option 'a b' is none"]),
    "extra host": (["--add-host", "x"], ["--add-host 'x' is not NAME:ADDRESS"]),
    "memory": (["--memory", "x"], ["'x' is not a size"]),
    "too little memory": (["--memory", "1k"], ["'1k' of memory is not enough"]),
    "too much memory": (["--memory", "9" * 30], ["more bytes than there can be"]),
    "cpus below zero": (["--cpus", "-1"], ["'-1' is not a number of CPUs"]),
    "cpus that are no number": (["--cpus", "nan"], ["'nan' is not a number of CPUs"]),
    "pids": (["--pids-limit", "x"], ["'x' is not a valid int", "(see plugrun"]),
    "too many pids": (["--pids-limit", "4194305"], ["--pids-limit 4194305 is too large", "4194304"]),
    "ulimit": (["--ulimit", "nofile=x"], ["'nofile=x' is not a resource limit"]),
    "unknown ulimit": (["--ulimit", "nosuch=1"], ["'nosuch=1' is not a resource limit", "nofile"]),
    "ulimit above its hard one": (["--ulimit", "nofile=5:1"], ["the soft limit is above the hard one"]),
    "shm size": (["--shm-size", "x"], ["'x' is not a size"]),
    "variable without a name": (["-e", "=x"], ["'' cannot name an environment variable"]),
    "variable with a line break in its name": (["-e", "a\nb=c"], [r"'a\nb' cannot name an environment variable"]),
    "env file that is missing": (["--env-file", "/nosuch"], ["no such --env-file: /nosuch"]),
    "env file that is a directory": (["--env-file", "/etc"], ["cannot read --env-file /etc: Is a directory"]),
    "volume of no name": (["-v", "a/b:/x"], ["'a/b' cannot be a volume name", "a host directory begins with '/'"]),
    "volume to a relative place": (["-v", "/etc:data"], ["'data' is not absolute"]),
    "volume without a place": (["-v", "/etc:"], ["'/etc:' is not [SOURCE:]TARGET"]),
    "volume with a propagation": (["-v", "data:/x:rshared"], ["a volume has no propagation, got 'rshared'"]),
    "volume twice": (["-v", "data:/x", "-v", "/x/"], ["two mounts go to the same place '/x'"]),
    "tmpfs twice": (["--tmpfs", "/x", "--tmpfs", "/x"], ["two mounts go to the same place '/x'"]),
    "volumes from nobody": (["--volumes-from", "nosuch"], ["no such container: nosuch"]),
    "volumes from in no way": (["--volumes-from", "web:x"], ["'web:x' is not CONTAINER, CONTAINER:ro"]),
    "volume in no driver": (["-v", "data:/x", "--volume-driver", "nosuch"], ["no storage driver 'nosuch'"]),
    "mount of nothing": (["--mount", "type=bind,src=/nosuch,dst=/x"], ["there is no /nosuch on this host"]),
    "image that is missing": (["--pull", "never", "--mount", "type=image,src=nosuch,dst=/x"], ["nosuch"]),
    "volume over the root": (["-v", "/etc:/"], ["the container's root cannot be mounted over"]),
    "unknown volume option": (["-v", "/etc:/x:bad"], ["unknown option 'bad'"]),
    "tmpfs at a relative place": (["--tmpfs", "data"], ["'data' is not absolute"]),
    "relative working directory": (["-w", "data"], ["'data' is not absolute"]),
    "unknown capability to add": (["--cap-add", "NET_ADMN"], ["no capability 'NET_ADMN'", "mean CAP_NET_ADMIN"]),
    "unknown capability to drop": (["--cap-drop", "nosuch"], ["no capability 'nosuch'"]),
    "unknown security option": (["--security-opt", "x"], ["--security-opt 'x' is unknown"]),
    "seccomp profile that is missing": (["--security-opt", "seccomp=/nosuch"], ["no such seccomp profile: /nosuch"]),
    "seccomp profile that is a directory": (["--security-opt", "seccomp=/etc"], ["/etc: Is a directory"]),
    "seccomp profile that is none": (["--security-opt", "seccomp=/etc/passwd"], ["seccomp profile: not JSON"]),
    "unknown stop signal": (["--stop-signal", "NOPE"], ["'NOPE' is not a signal"]),
    "stop timeout": (["--stop-timeout", "x"], ["'x' is not a valid int"]),
    "name of no UTF-8": (["--label", "x=\udcff"], [r"'x=\udcff' is not UTF-8"]),
    "swap without memory": (["--memory-swap", "64m"], ["--memory-swap 64m needs --memory"]),
    "less swap than memory": (["--memory", "64m", "--memory-swap", "1m"], ["--memory-swap 1m is less than"]),
    "cidfile that cannot be": (["--cidfile", "/nosuch/x"], ["cannot make the --cidfile /nosuch/x", "No such file"]),
    "cidfile that exists": (["--cidfile", "/etc/passwd"], ["--cidfile /etc/passwd exists already"]),
    "unknown option": (["--nosuch"], ["No such option: --nosuch", "(see plugrun"]),
}  # fmt: skip
CREATING = DRIVERS | NAMES | VALUES


@pytest.mark.parametrize("bad", CREATING)
def test_options_that_make_no_container(plugrun, busybox, bad):
    options, words = CREATING[bad]
    for command in ("run", "create") if bad in DRIVERS else ("run",):  # both parse them with the same function
        with nothing_made(plugrun):
            assert_refused(plugrun(command, *options, busybox, "true"), 125, *words)


@pytest.mark.parametrize("bad", ["unknown storage driver", "unknown network driver", "unknown runtime"])
def test_drivers_chosen_before_the_command(plugrun, busybox, bad):
    options, words = DRIVERS[bad]
    with nothing_made(plugrun):
        assert_refused(plugrun(*options, "run", busybox, "true"), 125, *words)


# Some things only the image can tell, so they are found out at the start.
STARTING = {
    "unknown user": (["--user", "nosuch"], ["no user 'nosuch'"]),
    "user with a line break": (["--user", "root\nx"], [r"no user 'root\nx'"]),
    "negative user": (["--user", "-1"], ["user '-1' is neither a name nor a number"]),
    "huge user": (["--user", "9" * 20], ["is out of range"]),
    "unknown group": (["--user", "0:nosuch"], ["no group 'nosuch'"]),
    "file over a directory": (
        ["-v", "/etc/passwd:/etc"],
        ["'/etc'", "Is a directory", "a file can only be mounted on a file"],
    ),
    "directory over a file": (
        ["-v", "/etc:/etc/passwd"],
        ["'/etc/passwd'", "Not a directory", "a directory can only be mounted on a directory"],
    ),
    "tmpfs over a file": (["--tmpfs", "/etc/passwd"], ["'/etc/passwd'", "Not a directory"]),
    "tmpfs option": (["--tmpfs", "/x:size=x"], ["--tmpfs '/x:size=x': 'x' is no size"]),
    "tmpfs option that only the kernel knows to be wrong": (["--tmpfs", "/x:mpol=no"], ["mount `tmpfs`"]),
    "working directory that is a file": (["-w", "/etc/passwd"], ["'/etc/passwd'", "Not a directory"]),
    "runtime that is none": (["--runtime", "true"], ["true cannot create container"]),
    "terminal without one": (["-it"], ["the input device is not a terminal"]),
}


@pytest.mark.parametrize("bad", STARTING)
def test_options_that_start_no_container(plugrun, busybox, bad):
    options, words = STARTING[bad]
    with nothing_made(plugrun):
        assert_refused(plugrun("run", "--rm", *options, busybox, "true"), 125, *words)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 127, ["'nosuch' does not exist"]),
        ("/bin/nosuch", 127, ["'/bin/nosuch' does not exist"]),
        ("a\nb", 127, ["does not exist in the container"]),
        ("", 127, ["'' does not exist"]),
        ("/etc", 126, ["'/etc' cannot be executed"]),
        ("/etc/passwd", 126, ["'/etc/passwd' cannot be executed", "x bit"]),
    ],
    ids=["name", "path", "line break", "empty", "directory", "file without x bit"],
)
def test_commands_that_cannot_run(plugrun, busybox, runtime, command, code, words):
    with nothing_made(plugrun):
        assert_refused(plugrun("run", "--rm", "--runtime", runtime, busybox, command), code, *words)


def test_a_taken_name_leaves_the_owner_alone(plugrun, busybox):
    plugrun("create", "--name", "web", busybox, "true").ok()
    try:
        with nothing_made(plugrun):
            for command in ("create", "run"):
                refused = plugrun(command, "--name", "web", busybox, "true")
                assert_refused(refused, 125, "'web' is taken by container", "plugrun rm web")
    finally:
        plugrun("rm", "web").ok()


IMAGES = {
    "unknown": ("nosuch", ["no image 'nosuch'", "plugrun load"]),
    "unknown tag": ("busybox:nosuch", ["no image 'busybox:nosuch'"]),
    "unknown id": ("sha256:" + "0" * 64, ["no image"]),
    "upper case": ("BusyBox", ["'BusyBox'", "lower case"]),
    "empty": ("", ["invalid image reference ''"]),
    "path": ("../x", ["invalid image reference '../x'"]),
    "line break": ("a\nb", [r"invalid image reference 'a\nb'"]),
}


@pytest.mark.parametrize("bad", IMAGES)
def test_images_that_are_not_there(plugrun, busybox, bad):
    image, words = IMAGES[bad]
    with nothing_made(plugrun):
        assert_refused(plugrun("run", "--pull", "never", image), 125, *words)
        assert_refused(plugrun("create", "--pull=never", image), 125, *words)
        assert_refused(plugrun("rmi", image), 1, *words)


def test_what_can_only_be_an_id_is_not_looked_for_in_a_registry(plugrun, busybox):
    for name in ("sha256:" + "0" * 64, "0" * 64):
        assert_refused(plugrun("run", name), 125, f"no image '{name}'")


COMMANDS = {
    "no image": (["run"], 125, ["Missing argument 'IMAGE'", "(see plugrun run --help)"]),
    "no image to create from": (["create"], 125, ["Missing argument 'IMAGE'"]),
    "no option value": (["load", "-i"], 125, ["'-i' requires an argument"]),
    "unknown command": (["nosuch"], 125, ["No such command 'nosuch'"]),
    "unknown image command": (["image", "nosuch"], 125, ["No such command 'nosuch'", "(see plugrun image --help)"]),
    "unknown global option": (["--nosuch", "ps"], 125, ["No such option: --nosuch"]),
    "unknown option": (["ps", "--nosuch"], 125, ["No such option: --nosuch"]),
    "one argument too many": (["ps", "x"], 125, ["unexpected extra argument", "(x)"]),
    "name of no UTF-8": (["rm", "\udcff"], 1, [r"no such container: \udcff"]),
    "command of no UTF-8": (["exec", "web", "echo", "\udcff"], 1, [r"'\udcff' is not UTF-8"]),
    "container run": (["container", "run", "nosuch"], 125, ["cannot pull nosuch:latest"]),
    "the options of a command that is not ours": (
        ["run", "nosuch", "sh", "-D"],
        125,
        ["cannot pull nosuch:latest"],
    ),
    "nothing to remove": (["rm"], 125, ["Missing argument 'CONTAINER...'"]),
    "stop timeout": (["stop", "-t", "x", "web"], 125, ["'x' is not a valid int"]),
    "signal": (["kill", "-s", "NOPE", "web"], 1, ["'NOPE' is not a signal"]),
    "tail": (["logs", "--tail", "x", "web"], 1, ["--tail 'x' is not a number of lines"]),
    "format": (["images", "--format", "{{.Nosuch}}"], 1, ["no field 'Nosuch'"]),
    "relative root": (["--root", "x", "ps"], 1, ["'x' cannot be a state directory"]),
    "root that mount options cannot carry": (["--root", "/a,b", "ps"], 1, ["'/a,b' cannot be a state directory"]),
    "root that is a file": (["--root", "/etc/passwd", "run", "x"], 125, ["cannot use /etc/passwd", "Not a directory"]),
    **{
        command: ([command, "nosuch", *more], 1, ["no such container: nosuch", "plugrun ps -a"])
        for command, *more in (["start"], ["stop"], ["kill"], ["wait"], ["rm"], ["logs"], ["attach"], ["exec", "true"])
    },
}


@pytest.mark.parametrize("bad", COMMANDS)
def test_other_commands(plugrun, busybox, bad):
    arguments, code, words = COMMANDS[bad]
    with nothing_made(plugrun):
        assert_refused(plugrun(*arguments), code, *words)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["run", "busybox", "true"], 125), (["create", "busybox"], 125), (["ps"], 1), (["images"], 1), (["load"], 1)],
)
def test_without_root_rights(plugrun, tmp_path, arguments, code):
    mine = Cli(Roots(tmp_path / "root", tmp_path / "run"))
    readers = "+dac_read_search"  # the checkout may be where others cannot look; the rights that matter are gone
    refused = subprocess.run(
        [*("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"),
         *("--inh-caps", readers, "--ambient-caps", readers, "--", *mine.argv(*arguments))],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert (refused.returncode, refused.stdout) == (code, "")
    assert refused.stderr == "plugrun: plugrun needs root rights; run it as root, or with sudo\n"
    assert os.listdir(tmp_path) == []


def test_none_of_it_left_anything(plugrun, busybox):
    assert plugrun("ps", "-aq").ok().stdout == ""
    found = made(plugrun)
    assert {"root/containers", "root/images/ingest/lock", "runroot/locks"} <= found
    layers = {Path(path).name for path in found if path.startswith("root/locks/layer-")}
    assert len(layers) <= 1  # the one of the image, which is there as long as the layer
    places = ("root/containers", *(f"runroot/{name}" for name in ("containers", "locks", "netns")))
    left = ("container ", *(f"{place}/" for place in (*places, "runroot/runtime", "runroot/staging")))
    assert not [path for path in found if path.startswith(left) or "staging-" in path]
