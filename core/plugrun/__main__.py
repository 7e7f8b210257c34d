"""Entry point of the ``plugrun`` program and of ``python -m plugrun``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn

_GARBAGE = 20_000  # objects made until the collector runs; at its default of 700 it runs all through the imports, 3 ms


def main() -> None:
    """Run the command line and exit with its code."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where the caller ignores it
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while nothing is done yet there is nothing to undo
    _open_standard_streams()
    if sys.argv[1:] in (["--version"], ["-v"]):  # scripts ask often: answer before the parser is loaded
        from plugrun import VERSION_LINE

        try:
            print(VERSION_LINE)
        except OSError:  # as in _leave, where Python does not buffer
            _leave(1)
        _leave(0)
    gc.set_threshold(_GARBAGE)
    from plugrun.cli.app import run
    from plugrun.cli.stopping import Stopped, raise_when_stopped

    try:
        raise_when_stopped()
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = run(sys.argv[1:])
    except Stopped as stopped:
        code = stopped.exit_code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    _leave(code)


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that came closed, or the next file opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _leave(code: int) -> NoReturn:
    """Exit without taking the interpreter apart: object by object, 7 ms go to freeing what the kernel frees at once."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads it any more, or its disk is full
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
