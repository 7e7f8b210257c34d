"""Run helper programs: a fixed clean environment, working directory ``/``, and no descriptor they were not given.

Neither the caller's environment nor the container's reaches a program of the engine's (CVE-2025-23266 is what happens
otherwise).
posix_spawn(3) instead of :mod:`subprocess` because that costs 4 to 5 ms to import on the way to every container; what
posix_spawn cannot do (umask, working directory), a two-line shell script does in 0.6 ms, measured.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence

from plugrun.errors import DriverError, Unavailable
from plugrun.tuples import NamedTuple

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SHELL = "/bin/sh"
_ENTER = 'umask 022 && cd -- "$0" && unset PWD OLDPWD && exec "$@"'  # cd exports both, naming the caller's place
_OUTPUT_LIMIT = 1 << 20
_CHUNK = 65536
_DEFAULT_SIGNALS = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}


class Completed(NamedTuple):
    """How a program ended.

    :param code: exit status, or minus the number of the signal that killed it.
    :param stdout: its first MiB, decoded as UTF-8 with replacement; so is ``stderr``.
    """

    code: int
    stdout: str
    stderr: str


def find(name: str) -> str | None:
    """Return the absolute path of an executable file on :data:`SEARCH_PATH`; the caller's ``PATH`` does not count."""
    for directory in SEARCH_PATH.split(":"):
        path = f"{directory}/{name}"
        if is_executable(path):
            return path
    return None


def is_executable(path: str) -> bool:
    """Whether ``path`` is a regular file that may be executed."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


def require(name: str, *, package: str) -> str:
    """Return the path of a program the engine cannot do without.

    :param package: the distribution package that has it.
    :raises Unavailable: it is not installed.
    """
    if (path := find(name)) is None:
        raise Unavailable(f"program {name!r} is not installed", hint=f"install it, e.g. apt-get install {package}")
    return path


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str = "/",
    env: Mapping[str, str] | None = None,
) -> int:
    """Start a program in a session of its own, with default signal handling and umask 022.

    :param argv: ``argv[0]`` is an absolute path.
    :param stdin: descriptor that becomes 0; ``None`` is ``/dev/null``. So for ``stdout`` and ``stderr``.
    :param pass_fds: descriptors above 2 the program gets under the same numbers; it gets no others.
    :param env: variables added to ``PATH``, which is all it has otherwise.
    :return: process id; the caller reaps it.
    :raises Unavailable: it cannot be started.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for number, source in enumerate((stdin, stdout, stderr)):
        if source is None:
            actions.append((os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, source, number))
    # dup2 onto itself clears close-on-exec in the child only, so no other thread's child inherits it
    actions += [(os.POSIX_SPAWN_DUP2, kept, kept) for kept in pass_fds]
    others = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *pass_fds}
    actions += [(os.POSIX_SPAWN_CLOSE, other) for other in others]
    try:
        return os.posix_spawn(
            _SHELL,
            ["sh", "-c", _ENTER, cwd, *argv],
            {"PATH": SEARCH_PATH, **(env or {})},
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        raise Unavailable(f"cannot start {argv[0]}: {error.strerror}") from error


def run(
    argv: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Completed:
    """Run a program to its end; output beyond a MiB on either stream is read and dropped.

    :param env: as for :func:`spawn`.
    :param timeout: seconds; then it is killed.
    :raises Unavailable: it cannot be started.
    :raises DriverError: it did not end in time.
    """
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    source = _memory_file(input) if input else None
    try:
        pid = spawn(argv, stdin=source, stdout=out_write, stderr=err_write, pass_fds=pass_fds, env=env)
    except BaseException:
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        os.close(out_write)
        os.close(err_write)
        if source is not None:
            os.close(source)
    try:
        output = _collect(pid, (out_read, err_read), time.monotonic() + timeout)
    except BaseException:  # such as an interrupt; a late "start" must not meet the container's next life
        _kill(pid)
        raise
    finally:
        os.close(out_read)
        os.close(err_read)
    if output is None:
        _kill(pid)
        raise DriverError(f"{argv[0]} did not end within {timeout:g} seconds and was killed")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Completed(code, *(text.decode("utf-8", "replace") for text in output))


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _memory_file(content: bytes) -> int:
    """Return a descriptor that reads ``content``: unlike a pipe, it needs nobody to write while the program runs."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _collect(pid: int, pipes: tuple[int, int], deadline: float) -> tuple[bytearray, bytearray] | None:
    """Read both pipes until the program ends, even when a daemon it left keeps them open; ``None`` at the deadline."""
    ended = os.pidfd_open(pid)
    collected = {pipe: bytearray() for pipe in pipes}
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    for pipe in pipes:
        os.set_blocking(pipe, False)
        poll.register(pipe, select.POLLIN)
    try:
        while True:
            ready = {fd for fd, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
            if not ready:
                return None
            for pipe in ready - {ended}:
                if not _drain(pipe, collected[pipe]):
                    poll.unregister(pipe)
            if ended in ready:
                for pipe in pipes:
                    _drain(pipe, collected[pipe])
                return collected[pipes[0]], collected[pipes[1]]
    finally:
        os.close(ended)


def _drain(pipe: int, collected: bytearray) -> bool:
    """Read what is there now, up to one output limit; ``False`` at the end of the stream."""
    for _ in range(_OUTPUT_LIMIT // _CHUNK):
        try:
            chunk = os.read(pipe, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        collected += chunk[: _OUTPUT_LIMIT - len(collected)]
    return True
