"""Errors by meaning; only the command line turns them into text and exit codes.

Every error names the thing and the value it is about, and ``hint`` says what to do next. Drivers raise
the same classes, so that an engine caller can act on the meaning without knowing who raised it.
"""

from __future__ import annotations


class PlugrunError(Exception):
    """Base of everything the engine raises on purpose.

    :param message: one line: what, and which value.
    :param hint: one line: what to do next, if there is something to do.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotFound(PlugrunError):
    """The named thing does not exist."""


class AlreadyExists(PlugrunError):
    """The name or id is taken."""


class InvalidArgument(PlugrunError):
    """The input can never be right, whatever the state of the system."""


class FailedPrecondition(PlugrunError):
    """The system is not in the state the operation needs; changing that state helps."""


class Unavailable(PlugrunError):
    """Something the operation needs (a program, a kernel feature, space, rights) is missing here."""


class Interrupted(Unavailable):
    """A transfer broke off, or stalled; another try may go on from where it was."""


class Denied(PlugrunError):
    """Somebody who decides, such as a registry, does not let this caller do it."""


class DriverError(PlugrunError):
    """A driver, the runtime or the monitor failed in a way it did not classify."""


class Drift(DriverError):
    """A driver's ``check`` found the system different from what its stored result says."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found


class CommandNotFound(NotFound):
    """The container's command does not exist in its root file system (exit code 127)."""


class CommandNotExecutable(FailedPrecondition):
    """The container's command exists but cannot be executed (exit code 126)."""
