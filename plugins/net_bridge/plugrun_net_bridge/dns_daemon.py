"""The resolver's process: ``aardvark-dns``, which serves a directory of files and goes on without us.

It forks, writes its number to ``aardvark.pid`` in that directory, reads the files again on SIGHUP, and cannot be told
what to forward: with ``AARDVARK_NO_PROXY`` in its environment it forwards nothing (aardvark-dns, src/commands/run.rs,
src/server/serve.rs, src/dns/coredns.rs).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

_PROGRAM = "aardvark-dns"
_PLACES = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman")
_PID_FILE = "aardvark.pid"
_PATIENCE = 2.0  # seconds for it to fork, or to end: each takes milliseconds


def find_program() -> str | None:
    """Return the path of ``aardvark-dns``: distributions keep it beside Podman's other programs, or on the path."""
    for place in (*_PLACES, *os.get_exec_path()):
        path = os.path.join(place, _PROGRAM)
        if os.path.isabs(path) and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


class Daemon:
    """The one process that serves ``config``; every method is called with the lock of the directory held.

    :param config: directory with nothing but its files.
    :param forwards: whether it asks the host's resolvers for names that it does not know.
    """

    def __init__(self, config: Path, *, forwards: bool) -> None:
        self._config = config
        self._forwards = forwards

    def reload(self) -> bool:
        """Have it read its files again; return whether it runs."""
        with self._found() as process:
            if process is None:
                return False
            try:
                signal.pidfd_send_signal(process, signal.SIGHUP)
            except ProcessLookupError:
                return False
            return True

    def start(self, program: str) -> str:
        """Start it, none being there.

        :return: why it did not start, or nothing.
        """
        import subprocess  # ten milliseconds, needed once

        try:
            done = subprocess.run(
                [program, "--config", str(self._config), "--port", "53", "run"],
                env={} if self._forwards else {"AARDVARK_NO_PROXY": "1"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{program} did not start within {_PATIENCE:.0f} seconds"
        except OSError as error:
            return f"{program} did not start: {error.strerror}"
        return f"{program} did not start: exit status {done.returncode}" if done.returncode else ""

    def stop(self) -> None:
        """End it, if it runs, and wait until it has; its addresses are free then."""
        with self._found() as process:
            if process is not None:
                for number in (signal.SIGTERM, signal.SIGKILL):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(process, number)
                    if _has_ended(process):
                        break
        (self._config / _PID_FILE).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _found(self) -> Iterator[int | None]:
        """Find the process and hold it by a pidfd, so that no later one of the same number is meant."""
        process = next(self._candidates(), None)
        try:
            yield process
        finally:
            if process is not None:
                os.close(process)

    def _candidates(self) -> Iterator[int]:
        """Yield what surely is our process: of the file's number, else any (we may have been killed starting it)."""
        with contextlib.suppress(OSError, ValueError):
            yield from self._open(int((self._config / _PID_FILE).read_bytes()))
        for name in os.listdir("/proc"):
            if name.isdigit():
                yield from self._open(int(name))

    def _open(self, pid: int) -> Iterator[int]:
        if pid <= 0:
            return
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return
        if self._is_ours(pid):
            yield process
        else:
            os.close(process)

    def _is_ours(self, pid: int) -> bool:
        """Whether it is an ``aardvark-dns`` of this host (a container can have one too) that serves our directory."""
        try:
            program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
            if os.path.basename(program) != _PROGRAM:
                return False
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return os.fsencode(self._config) in arguments and all(
                os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "pid")
            )
        except OSError:
            return False


def _has_ended(process: int) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(_PATIENCE * 1000))
