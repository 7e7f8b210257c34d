"""The caller's terminal, a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

from plugrun import terminal

ICANON = termios.ICANON


@pytest.fixture
def tty():
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


def cooked(descriptor: int) -> bool:
    return bool(termios.tcgetattr(descriptor)[3] & ICANON)


def test_what_is_a_terminal(tty):
    assert terminal.is_terminal(tty)
    null = os.open("/dev/null", os.O_RDWR)
    assert not terminal.is_terminal(null)
    assert terminal.size(null) is None
    os.close(null)
    assert not terminal.is_terminal(900)
    assert terminal.size(900) is None


def test_size(tty):
    assert terminal.size(tty) is None  # a new one has no size
    fcntl.ioctl(tty, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    assert terminal.size(tty) == (24, 80)


def test_raw_and_back(tty):
    before = termios.tcgetattr(tty)
    with terminal.raw(tty):
        assert not cooked(tty)
    assert termios.tcgetattr(tty) == before


def test_back_after_an_exception(tty):
    with pytest.raises(KeyError), terminal.raw(tty):
        raise KeyError
    assert cooked(tty)


def test_no_terminal_is_left_alone():
    null = os.open("/dev/null", os.O_RDWR)
    with terminal.raw(null):
        pass
    os.close(null)


def test_handlers_come_back(tty):
    before = [signal.getsignal(number) for number in terminal._FATAL]
    with terminal.raw(tty):
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in terminal._FATAL] == before


def test_somebody_elses_handler_stays(tty):
    got = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    try:
        with terminal.raw(tty):
            os.kill(os.getpid(), signal.SIGTERM)
            assert not cooked(tty)
        assert got == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread(tty):
    def body() -> None:
        with terminal.raw(tty):
            states.append(cooked(tty))

    states: list[bool] = []
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert states == [False]
    assert cooked(tty)


@pytest.mark.parametrize("number", terminal._FATAL)
def test_back_before_a_signal_ends_us(tty, number):
    script = (
        "import os, sys, signal; sys.path.insert(0, 'core'); from plugrun import terminal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with terminal.raw(0):\n    print('raw', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=tty, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"raw\n"
        assert not cooked(tty)
        process.send_signal(number)
        assert process.wait(30) == -number
    assert cooked(tty)


def test_terminal_that_has_gone():
    master, slave = pty.openpty()
    with terminal.raw(slave):
        os.close(master)
    os.close(slave)
