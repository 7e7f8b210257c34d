"""Signals that ask the program to end."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from plugrun import __main__
from plugrun.cli import app
def run(words):
    try:
        os.kill(os.getpid(), int(words[0]))
        return 3
    finally:
        os.kill(os.getpid(), int(words[0]))  # a second one does not disturb
        print("undone")
app.run = run
__main__.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_first_signal_unwinds_and_an_ignored_one_does_nothing(number, ignored):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL),
    )
    assert (done.returncode, done.stdout, done.stderr) == (3 if ignored else 128 + number, "undone\n", "")
