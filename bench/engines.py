"""The engines that are compared: how each is started, given the image, and asked to run `true`.

All use crun, layers on the same file system and the same archive. What differs is the engine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRUN = "/usr/bin/crun"
DOCKER = "/usr/bin/docker"  # the client that belongs to Debian's dockerd


@dataclass(frozen=True)
class Engine:
    """One engine, ready to run: its command line up to the subcommand, and the names it has for things."""

    name: str
    argv: tuple[str, ...]
    version: str
    store: Path  # the directory of everything that it keeps
    network_option: str = "--network"
    pull_options: tuple[str, ...] = ()
    kill_options: tuple[str, ...] = ()  # of `rm -f`, so that it waits for no container that ignores SIGTERM
    daemon: int | None = None  # its process id
    storage: str = "overlay"

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    def run_true(self, network: str) -> list[str]:
        """Return the command line that is measured."""
        return [*self.argv, "run", "--rm", self.network_option, network, "busybox", "true"]

    def run_sleeper(self, *options: str) -> list[str]:
        """Return the command line that starts a container on the engine's bridge and leaves it there."""
        return [*self.argv, "run", "-d", self.network_option, "bridge", *options, "busybox", "sleep", "36000"]

    def remove_all(self) -> None:
        """Remove every container, whatever it does."""
        if containers := output([*self.argv, "ps", "-aq"]).split():
            output([*self.argv, "rm", "-f", *self.kill_options, *containers])

    def pull(self, image: str) -> list[str]:
        return [*self.argv, "pull", *self.pull_options, image]

    def has(self, image: str) -> bool:
        command = [*self.argv, "image", "inspect", image]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def installed(work: Path, storage: str = "overlay", *, bridge: bool = False) -> Iterator[list[Engine]]:
    """Start what is installed, its store below ``work`` and on the storage driver; stop it again at the end.

    :param bridge: docker's daemon has a bridge and rules; plugrun and podman make theirs when they need them.
    """
    with contextlib.ExitStack() as stack:
        yield list(one_by_one(stack, work, storage, bridge=bridge))


def one_by_one(stack: contextlib.ExitStack, work: Path, storage: str, *, bridge: bool) -> Iterator[Engine]:
    """Yield the engines of :func:`installed`, each started when it is asked for."""
    yield plugrun(work, storage)
    if shutil.which("podman"):
        yield podman(work, storage)
    if shutil.which("dockerd") and os.path.exists(DOCKER):
        yield stack.enter_context(docker(work, storage, bridge=bridge))


def plugrun(work: Path, storage: str = "overlay") -> Engine:
    program, store = str(Path(sys.executable).with_name("plugrun")), work / "plugrun"
    argv = (program, "--root", str(store), "--runroot", f"/run/bench-plugrun-{storage}", "--runtime", "crun")
    version = output([program, "--version"]).split()[-1]
    return Engine("plugrun", (*argv, "--storage", storage), version, store, network_option="--net", storage=storage)


def podman(work: Path, storage: str) -> Engine:
    store = work / "podman"
    run = f"/run/bench-{storage}"
    places = ("--root", str(store), "--runroot", f"{run}-podman", "--tmpdir", f"{run}-libpod")
    choices = ("--storage-driver", storage, "--cgroup-manager", "cgroupfs", "--runtime", CRUN)
    # Its default here is a log file too; the other choice is systemd's journal, which a private host lacks.
    argv = ("podman", *places, *choices, "--events-backend", "file")
    version = output(["podman", "--version"]).split()[-1]
    pull, kill = ("--tls-verify=false",), ("-t", "0")
    return Engine("podman", argv, version, store, pull_options=pull, kill_options=kill, storage=storage)


@contextlib.contextmanager
def docker(work: Path, storage: str, *, bridge: bool = False) -> Iterator[Engine]:
    """Run a dockerd for the time of the comparison. Its start is not measured: it is there when users come."""
    store = work / "docker"
    run = f"/run/bench-{storage}-docker"
    daemon = ["dockerd", "--host", f"unix://{run}.sock", "--data-root", str(store)]
    daemon += ["--exec-root", run, "--pidfile", f"{run}.pid"]
    driver = {"overlay": "overlay2"}.get(storage, storage)
    daemon += ["--storage-driver", driver]
    if not bridge:
        daemon += ["--bridge=none", "--iptables=false", "--ip-forward=false"]
    daemon += ["--add-runtime", f"crun={CRUN}", "--default-runtime", "crun"]
    # The hard limit of whoever runs this: a machine may forbid raising it, and dockerd tries.
    daemon += ["--default-ulimit", "nofile=1024:1024"]
    argv = (DOCKER, "--host", f"unix://{run}.sock")
    with open(work / "dockerd.log", "wb") as log, subprocess.Popen(daemon, stdout=log, stderr=log) as process:
        try:
            version = wait_for_docker(argv, process).partition("+")[0]
            yield Engine("docker", argv, version, store, daemon=process.pid, storage=storage)
        finally:
            process.send_signal(signal.SIGTERM)


def wait_for_docker(argv: tuple[str, ...], process: subprocess.Popen[bytes], patience: float = 30.0) -> str:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        done = subprocess.run(
            [*argv, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
        time.sleep(0.1)
    sys.exit("bench: dockerd did not come up")


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[Any]:
    """Open plugrun's engine in this process, to time what it does without the start of a program."""
    from plugrun.engine import Engine as Opened
    from plugrun.paths import Paths

    run_root = engine.argv[engine.argv.index("--runroot") + 1]
    inside = Opened(Paths(engine.store, Path(run_root)))
    try:
        yield inside
    finally:
        inside.close()


def output(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
