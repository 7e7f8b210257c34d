"""A person at a terminal: a program as the session leader of a pseudo-terminal, keys to type, a screen to read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

DEADLINE = 30.0
SIZE = (33, 101)  # nobody's default


class Terminal:
    """A pseudo-terminal on which one program runs, as a context; kills the program at the end."""

    def __init__(self, argv: Sequence[str], size: tuple[int, int] = SIZE) -> None:
        self._master, self._slave = pty.openpty()
        self._open = [self._master, self._slave]
        self.resize(*size)
        self.before = self.settings()
        self.screen = ""  # everything shown so far
        self._read = 0  # how much of it expect() has passed
        self.process = subprocess.Popen(argv, preexec_fn=lambda: os.login_tty(self._slave))  # noqa: PLW1509

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.hang_up()

    def hang_up(self) -> None:
        """Let the terminal vanish, as when a connection breaks."""
        while self._open:
            os.close(self._open.pop())

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel tells the program in the foreground."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    @property
    def raw(self) -> bool:
        return not self.settings()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> None:
        """Read until the screen shows ``text`` after what was expected before."""
        deadline = time.monotonic() + DEADLINE
        while (found := self.screen.find(text, self._read)) < 0:
            assert self._look(deadline), f"{text!r} not in {self.screen[self._read :]!r}"
        self._read = found + len(text)

    def end(self) -> int:
        """Read until the program ends; return its exit code, 128 + N after signal N."""
        deadline = time.monotonic() + DEADLINE
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while self._look(deadline, pidfd):
                pass
            assert self.process.poll() is not None, f"still running: {self.screen!r}"
        finally:
            os.close(pidfd)
        while self._look(0):
            pass
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    def _look(self, deadline: float, *others: int) -> bool:
        """Wait for the screen to change; ``False`` at the deadline, or when one of the others is ready instead."""
        ready, _, _ = select.select([self._master, *others], [], [], max(0.0, deadline - time.monotonic()))
        if self._master not in ready:
            return False
        self.screen += os.read(self._master, 65536).decode(errors="replace")
        return True


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that nothing announces."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
