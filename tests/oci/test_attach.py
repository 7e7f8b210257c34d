"""Streams, terminals and signals between a caller and a container."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import termios
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from oci.containers import DEADLINE, Container, Sink, container, readable
from plugrun import terminal
from plugrun.errors import FailedPrecondition, InvalidArgument, Unavailable
from plugrun.oci import keys, monitor, signals
from plugrun.oci.attach import Outcome, attach

KEYS = keys.parse(keys.DEFAULT)


# --- Detach keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sequence"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@", b"\x00"),
        ("a", b"a"),
        ("CTRL-A,b", b"\x01b"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("", b""),
    ],
)
def test_detach_keys(text, sequence):
    assert keys.parse(text) == sequence


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "a,", ",", "ctrl-p ctrl-q", "strg-p", "é", "ctrl-aa"])
def test_what_is_no_detach_key(text):
    with pytest.raises(InvalidArgument, match="detach keys"):
        keys.parse(text)


@pytest.mark.parametrize(
    ("typed", "passed", "complete", "rest"),
    [
        (b"hello", b"hello", False, b""),
        (b"x\x10\x11y", b"x", True, b""),
        (b"\x10", b"", False, b"\x10"),
        (b"\x10z", b"\x10z", False, b""),
        (b"\x10\x10\x11", b"\x10", True, b""),
        (b"\x11\x10", b"\x11", False, b"\x10"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_detector(typed, passed, complete, rest, at_once):
    detector = keys.Detector(KEYS)
    pieces = [typed] if at_once else [bytes((byte,)) for byte in typed]
    got = b""
    done = False
    for piece in pieces:
        data, done = detector.feed(piece)
        got += data
        if done:
            break
    assert (got, done, detector.rest()) == (passed, complete, rest)


def test_detector_of_a_sequence_that_repeats_itself():
    detector = keys.Detector(b"aab")
    assert detector.feed(b"aaaab") == (b"aa", True)


def test_no_detach_keys():
    assert keys.Detector(b"").feed(KEYS) == (KEYS, False)


# --- The loop, against a monitor of our own -------------------------------------------------------------------------


class Monitor:
    """The other end of an attach socket."""

    def __init__(self) -> None:
        self.sock, self.client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ended, self._alive = os.pipe()

    def end(self) -> None:
        if self._alive >= 0:
            self.sock.close()
            os.close(self._alive)
            self._alive = -1

    def close(self) -> None:
        self.end()
        self.client.close()
        os.close(self.ended)

    def attach(self, **options) -> Outcome:
        values = {"stdin": None, "tty": False, "detach_keys": KEYS, "ended": self.ended}
        return attach(self.client, **{**values, **options})


@pytest.fixture
def mon():
    made = Monitor()
    yield made
    made.close()


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Run something in a thread for the length of the block; its failure is the test's."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 - handed over to the test's thread
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_streams_are_kept_apart(mon):
    for packet in (b"\x02one ", b"\x03two", b"\x02three", b"\x07unknown", b"\x02"):
        mon.sock.send(packet)
    mon.end()
    with Sink() as out, Sink() as err:
        assert mon.attach(stdout=out.write_end, stderr=err.write_end) is Outcome.EXITED
        assert (out.content(), err.content()) == (b"one three", b"two")


def test_output_is_complete_when_the_monitor_ends_first(mon):
    mon.sock.send(b"\x02" + b"x" * 8192)
    os.close(mon._alive)
    mon._alive = -1
    with Sink() as out:
        assert mon.attach(stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
        assert len(out.content()) == 8192  # its socket is even still open, as one it has passed on would be
    mon.sock.close()


def test_unread_input_does_not_cost_output(mon):
    """Closing a unix socket with unread data resets it, and the reset comes before the data."""
    mon.client.send(b"never read")
    mon.sock.send(b"\x02output")
    mon.end()
    with Sink() as out:
        assert mon.attach(stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
        assert out.content() == b"output"


@pytest.mark.parametrize("kind", ["directory", "write-only", "closed"])
def test_input_that_cannot_be_read_is_an_empty_one(mon, kind):
    stdin = 900  # closed
    if kind != "closed":
        stdin = os.open("/", os.O_RDONLY) if kind == "directory" else os.open("/dev/null", os.O_WRONLY)

    def monitor_side() -> None:
        assert mon.sock.recv(100) == b""
        mon.end()

    with Sink() as out, meanwhile(monitor_side):
        assert mon.attach(stdin=stdin, stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
    if kind != "closed":
        os.close(stdin)


def test_input_arrives_in_packets_every_conmon_can_read(mon):
    read_end, write_end = os.pipe()
    content = os.urandom(60000)
    os.write(write_end, content)
    os.close(write_end)
    got = bytearray()

    def monitor_side() -> None:
        while packet := mon.sock.recv(1 << 20):
            assert len(packet) <= 8192
            got.extend(packet)
        mon.end()

    with Sink() as out, meanwhile(monitor_side):
        assert mon.attach(stdin=read_end, stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
    os.close(read_end)
    assert got == content


def test_flags_of_the_callers_descriptors_stay(mon):
    read_end, write_end = os.pipe()
    with Sink() as out:
        mon.end()
        mon.attach(stdin=read_end, stdout=out.write_end, stderr=out.write_end)
        assert os.get_blocking(read_end)
        assert os.get_blocking(out.write_end)
        assert mon.client.getblocking()
    os.close(read_end)
    os.close(write_end)


def test_broken_stdout(mon):
    read_end, write_end = os.pipe()
    os.close(read_end)
    mon.sock.send(b"\x02anything")
    with Sink() as err:
        assert mon.attach(stdout=write_end, stderr=err.write_end) is Outcome.BROKEN
    os.close(write_end)


def test_broken_stderr_is_only_lost(mon):
    read_end, write_end = os.pipe()
    os.close(read_end)
    for packet in (b"\x03lost", b"\x03lost", b"\x02kept"):
        mon.sock.send(packet)
    mon.end()
    with Sink() as out:
        assert mon.attach(stdout=out.write_end, stderr=write_end) is Outcome.EXITED
        assert out.content() == b"kept"
    os.close(write_end)


def test_full_disk_is_an_error(mon):
    mon.sock.send(b"\x02anything")
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(Unavailable, match="No space left"):
        mon.attach(stdout=full, stderr=full)
    os.close(full)


def test_memory_stays_flat_when_nobody_reads(mon):
    def flood() -> None:
        with contextlib.suppress(BrokenPipeError):
            for _ in range(1000):
                mon.sock.send(b"\x02" + b"x" * 8192)
        mon.end()

    def let_go_when_full() -> None:
        wait_until(lambda: pending(out.read_end) >= 65536 - 8192)
        out.release()

    with Sink(held=True, keep=False) as out:
        tracemalloc.start()
        with meanwhile(flood), meanwhile(let_go_when_full):
            outcome = mon.attach(stdout=out.write_end, stderr=out.write_end)
            peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert outcome is Outcome.EXITED
        out.content()
        assert out.count == 1000 * 8192
    assert peak < 1 << 20


def test_a_writer_that_outlives_its_process_is_cut_off(mon):
    """conmon drains an exec session for as long as something writes, which may be for ever."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    process = os.pidfd_open(pid)
    assert readable(process)

    def flood() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                mon.sock.send(b"\x02" + b"x" * 8192)

    null = os.open("/dev/null", os.O_WRONLY)
    with meanwhile(flood):
        assert mon.attach(stdout=null, stderr=null, process=process) is Outcome.EXITED
        mon.client.shutdown(socket.SHUT_RDWR)
    os.waitpid(pid, 0)
    os.close(process)
    os.close(null)


def test_what_an_ended_process_wrote_is_not_cut_off(mon):
    pid = os.posix_spawn("/bin/true", ["true"], {})
    process = os.pidfd_open(pid)
    assert readable(process)

    def write() -> None:
        for _ in range(400):
            mon.sock.send(b"\x02" + b"x" * 8192)
        mon.end()

    with Sink() as out, meanwhile(write):
        assert mon.attach(stdout=out.write_end, stderr=out.write_end, process=process) is Outcome.EXITED
        assert len(out.content()) == 400 * 8192
    os.waitpid(pid, 0)
    os.close(process)


def test_detach_passes_on_what_came_before(mon):
    read_end, write_end = os.pipe()
    os.write(write_end, b"last words\x10\x11dropped")
    with Sink() as out:
        assert mon.attach(stdin=read_end, stdout=out.write_end, stderr=out.write_end, tty=True) is Outcome.DETACHED
    assert mon.sock.recv(100) == b"last words"
    os.close(read_end)
    os.close(write_end)


def test_without_a_terminal_the_keys_are_bytes(mon):
    read_end, write_end = os.pipe()
    os.write(write_end, KEYS)
    os.close(write_end)

    def monitor_side() -> None:
        assert mon.sock.recv(100) == KEYS
        assert mon.sock.recv(100) == b""
        mon.end()

    with Sink() as out, meanwhile(monitor_side):
        assert mon.attach(stdin=read_end, stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
    os.close(read_end)


def test_half_a_sequence_at_the_end_is_passed_on(mon):
    read_end, write_end = os.pipe()
    os.write(write_end, b"\x10")
    os.close(write_end)

    def monitor_side() -> None:
        assert mon.sock.recv(100) == b"\x10"
        mon.end()

    with Sink() as out, meanwhile(monitor_side):
        assert mon.attach(stdin=read_end, stdout=out.write_end, stderr=out.write_end, tty=True) is Outcome.EXITED
    os.close(read_end)


# --- Signals --------------------------------------------------------------------------------------------------------


def test_which_signals_are_forwarded():
    numbers = set(signals.forwarded())
    for name in ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "RTMIN", "RTMAX"):
        assert getattr(signal, f"SIG{name}") in numbers
    for name in ("KILL", "STOP", "CHLD", "PIPE", "URG", "WINCH", "SEGV", "TSTP", "ALRM"):
        assert getattr(signal, f"SIG{name}") not in numbers


def test_signals_go_to_the_container_in_order(mon):
    before = {number: signal.getsignal(number) for number in signals.forwarded()}
    got: list[int] = []
    wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]

    def forward(number: int) -> None:
        got.append(number)
        if len(got) == len(wanted):
            mon.end()
        else:
            os.kill(os.getpid(), wanted[len(got)])
        raise FailedPrecondition("too late")  # a container that has just ended is no error

    with Sink() as out:
        timer = threading.Thread(
            target=lambda: (wait_until(lambda: custom(signal.SIGINT)), os.kill(os.getpid(), wanted[0]))
        )
        timer.start()
        assert mon.attach(stdout=out.write_end, stderr=out.write_end, forward_signal=forward) is Outcome.EXITED
        timer.join()
    assert got == wanted
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def custom(number: int) -> bool:
    return signal.getsignal(number) not in {signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler}


def test_a_size_that_changed_before_anybody_listened_is_told(mon):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    asked: list[tuple[int, int]] = []
    mon.end()
    assert mon.attach(stdout=slave, stderr=slave, on_resize=lambda *size: asked.append(size)) is Outcome.EXITED
    assert asked == [(33, 101)]
    os.close(master)
    os.close(slave)


def test_a_terminal_that_is_hung_up_is_a_user_who_left(mon):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    streams = {"stdin": slave, "stdout": slave, "stderr": slave}
    with terminal.raw(slave):  # and hung up as soon as somebody listens
        assert mon.attach(**streams, tty=True, on_resize=lambda *_: os.close(master)) is Outcome.DETACHED
    os.close(slave)


def test_output_to_a_terminal_that_is_hung_up(mon):
    master, slave = pty.openpty()
    os.close(master)
    mon.sock.send(b"\x02anything")
    assert mon.attach(stdout=slave, stderr=slave, tty=True) is Outcome.DETACHED
    os.close(slave)


def test_signals_are_left_alone_in_other_threads(mon):
    mon.end()
    outcomes: list[Outcome] = []
    with Sink() as out:
        thread = threading.Thread(
            target=lambda: outcomes.append(
                mon.attach(stdout=out.write_end, stderr=out.write_end, forward_signal=lambda _: None)
            )
        )
        thread.start()
        thread.join(DEADLINE)
    assert outcomes == [Outcome.EXITED]


# --- Real containers ------------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path, real_runtime):
    with container(tmp_path, real_runtime) as made:
        yield made


@pytest.mark.root
class TestContainer:
    def test_short_output_is_never_lost(self, box):
        for number in range(10):
            out, err, outcome = box.create("sh", "-c", f"echo {number}; echo {number} >&2").output()
            assert (out, err, outcome) == (b"%d\n" % number, b"%d\n" % number, Outcome.EXITED)
            box.remove()

    def test_ten_megabytes_to_a_slow_reader(self, box):
        box.create("seq", "1", "1400000")

        def let_go_when_full() -> None:
            wait_until(lambda: pending(out.read_end) >= 65536 - 8192)
            out.release()

        with Sink(held=True) as out, monitor.connect(box.run_dir) as sock, meanwhile(let_go_when_full):
            box.start()
            assert box.attach(sock, stdout=out.write_end, stderr=out.write_end) is Outcome.EXITED
            content = out.content()
        assert len(content) > 10_000_000
        assert content == b"".join(b"%d\n" % number for number in range(1, 1400001))
        assert box.wait() == 0

    def test_input_round_trip(self, box):
        content = os.urandom(3_000_000)
        read_end, write_end = os.pipe()

        def feed() -> None:
            with open(write_end, "wb") as stream:
                stream.write(content)

        box.create("cat", stdin_open=True)
        with Sink() as out, monitor.connect(box.run_dir) as sock, meanwhile(feed):
            box.start()
            assert box.attach(sock, stdin=read_end, stdout=out.write_end, stderr=2) is Outcome.EXITED
            assert out.content() == content
        os.close(read_end)
        assert box.wait() == 0

    def test_input_nobody_wants(self, box):
        read_end, write_end = os.pipe()

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError):
                while True:
                    os.write(write_end, b"x" * 65536)

        with meanwhile(feed):
            for _ in range(5):
                box.create("sh", "-c", "head -c 100000; echo end", stdin_open=True)
                with Sink() as out, monitor.connect(box.run_dir) as sock:
                    box.start()
                    assert box.attach(sock, stdin=read_end, stdout=out.write_end, stderr=2) is Outcome.EXITED
                    assert out.content() == b"x" * 100000 + b"end\n"
                assert box.wait() == 0
                box.remove()
            os.close(read_end)
        os.close(write_end)

    def test_head_ends_the_pipeline(self, box):
        read_end, write_end = os.pipe()

        def head() -> None:
            assert os.read(read_end, 2) == b"y\n"
            os.close(read_end)

        box.create("yes")
        with monitor.connect(box.run_dir) as sock, meanwhile(head):
            box.start()
            assert box.attach(sock, stdout=write_end, stderr=2) is Outcome.BROKEN
        os.close(write_end)
        assert box.client.state(box.id).status == "running"

    def test_killed_monitor_ends_the_wait(self, box):
        box.create("sh", "-c", "echo here; sleep 1000")
        with Sink() as out, monitor.connect(box.run_dir) as sock:
            box.start()
            with meanwhile(
                lambda: (wait_until(lambda: pending(out.read_end) or out.seen()), os.kill(box.handle.monitor_pid, 9))
            ):
                assert box.attach(sock, stdout=out.write_end, stderr=2) is Outcome.EXITED
            assert out.content() == b"here\n"

    def test_signals_reach_the_process(self, box):
        box.create("sh", "-c", "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.1; done")
        with Sink() as out, monitor.connect(box.run_dir) as sock:
            box.start()
            with meanwhile(
                lambda: (wait_until(lambda: out.seen() == b"ready\n"), os.kill(os.getpid(), signal.SIGTERM))
            ):
                outcome = box.attach(
                    sock, stdout=out.write_end, stderr=2, forward_signal=lambda number: box.client.kill(box.id, number)
                )
            assert outcome is Outcome.EXITED
            assert out.content() == b"ready\ncaught\n"
        assert box.wait() == 4

    def test_terminal(self, box):
        """A shell on a pseudo-terminal: echo, size, resize, detach, and back again."""
        box.create("sh", tty=True)
        user = User()
        with monitor.connect(box.run_dir) as sock:
            monitor.resize(box.run_dir, 33, 101)
            box.start()

            def first() -> None:
                user.type("stty size\r", until="33 101")
                user.resize(44, 55)
                os.kill(os.getpid(), signal.SIGWINCH)
                wait_until(lambda: user.asked[-1:] == [(44, 55)])
                # the monitor applies it when it reads its fifo, so ask until it has
                user.type("until [ \"$(stty size)\" = '44 55' ]; do :; done; echo re''sized\r", until="resized")
                user.type("\x10\x11", until="")

            assert user.attach(box, sock, first) is Outcome.DETACHED
        assert box.client.state(box.id).status == "running"
        with monitor.connect(box.run_dir) as sock:
            outcome = user.attach(box, sock, lambda: user.type("tty >/dev/null; echo a''gain; exit 6\r", until="again"))
            assert outcome is Outcome.EXITED
        assert box.wait() == 6
        user.close()


class User:
    """Somebody at a terminal."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.asked: list[tuple[int, int]] = []

    def attach(self, box: Container, sock: socket.socket, act: Callable[[], None]) -> Outcome:
        def resized(rows: int, columns: int) -> None:
            self.asked.append((rows, columns))
            monitor.resize(box.run_dir, rows, columns)

        with terminal.raw(self.slave), meanwhile(act):
            return box.attach(sock, stdin=self.slave, stdout=self.slave, stderr=self.slave, on_resize=resized)

    def type(self, text: str, *, until: str) -> None:
        os.write(self.master, text.encode())
        seen = b""
        deadline = time.monotonic() + DEADLINE
        while until.encode() not in seen:
            assert readable(self.master, max(0.0, deadline - time.monotonic())), f"{until!r} not in {seen!r}"
            seen += os.read(self.master, 4096)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def pending(descriptor: int) -> int:
    """Return how many bytes wait in a pipe."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)
