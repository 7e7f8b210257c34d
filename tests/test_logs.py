"""Reading logs: what monitors write, what containers print, and what neither should be able to do."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from plugrun import logs
from plugrun.errors import NotFound
from plugrun.logs import Piece, parse, read, tail_offset

T = "2026-11-23T23:31:%02d.000000000+00:00"


def record(second: int, stream: str, tag: str, content: bytes) -> bytes:
    return f"{T % second} {stream} {tag} ".encode() + content + b"\n"


def out(second: int, content: bytes, tag: str = "F") -> bytes:
    return record(second, "stdout", tag, content)


def err(second: int, content: bytes, tag: str = "F") -> bytes:
    return record(second, "stderr", tag, content)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "container.log"


def text(pieces, stream: str | None = None) -> bytes:
    return b"".join(piece.data for piece in pieces if stream in {None, piece.stream})


def test_records(log):
    log.write_bytes(out(1, b"one") + err(2, b"two") + out(3, b"", "F"))
    assert list(read(log)) == [
        Piece("stdout", T % 1, b"one\n", True),
        Piece("stderr", T % 2, b"two\n", True),
        Piece("stdout", T % 3, b"\n", True),
    ]


def test_pieces_of_a_line_are_told_apart_by_stream(log):
    log.write_bytes(out(1, b"a", "P") + err(2, b"X", "P") + out(3, b"b", "P") + err(4, b"Y") + out(5, b"c"))
    pieces = list(read(log))
    assert [piece.first for piece in pieces] == [True, True, False, False, False]
    assert (text(pieces, "stdout"), text(pieces, "stderr")) == (b"abc\n", b"XY\n")


def test_no_log(log):
    with pytest.raises(NotFound, match="no log"):
        list(read(log))


def test_empty(log):
    log.touch()
    assert list(read(log)) == []
    assert list(read(log, tail=5)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"2026-01-01T00:00:00.000000000Z stdout F forged",
        b"\r2026-01-01T00:00:00.000000000Z stdout F forged",
        b"\x00\x1b[2J\x07",
        b"\xff\xfe\xc3",
        b" ",
        b"F ",
        b"\xe2\x80\xa8\x85\x0b\x0c\x1c\x1d\x1e",
    ],
)
def test_content_is_content(log, content):
    log.write_bytes(out(1, content) + out(2, b"after"))
    assert [piece.data for piece in read(log)] == [content + b"\n", b"after\n"]
    assert [piece.data for piece in read(log, tail=1)] == [b"after\n"]
    assert [piece.data for piece in read(log, tail=2)] == [content + b"\n", b"after\n"]


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"garbage\n",
        b"a b c d\n",
        (T % 1).encode() + b" stdin F x\n",
        (T % 1).encode() + b" stdout X x\n",
        (T % 1).encode() + b" stdout F\n",
        b"\xff stdout F x\n",
        b"20 stdout F x\n",
        b"\0" * 100 + b"\n",
    ],
)
def test_what_is_no_record_is_skipped(log, line):
    assert parse(line) is None
    log.write_bytes(line + out(1, b"kept") + line)
    assert text(read(log)) == b"kept\n"
    assert text(read(log, tail=1)) == b"kept\n"


def test_record_that_is_not_complete_yet(log):
    log.write_bytes(out(1, b"one") + out(2, b"two")[:-3])
    assert text(read(log)) == b"one\n"


def test_line_without_end_is_no_reason_to_use_memory(log):
    with log.open("wb") as stream:
        stream.write(out(1, b"first"))
        stream.write(b"x" * (16 << 20))  # a file that was tampered with
        stream.write(b"\n" + out(2, b"last"))
    tracemalloc.start()
    assert text(read(log)) == b"first\nlast\n"
    assert text(read(log, tail=1)) == b"last\n"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_line_of_64_mib_stays_flat(log):
    piece = out(1, b"x" * 8191, "P")
    with log.open("wb") as stream:
        for _ in range(8192):
            stream.write(piece)
        stream.write(out(2, b"end"))
    tracemalloc.start()
    size = sum(len(piece.data) for piece in read(log))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 8192 * 8191 + 4
    assert peak < 1 << 20


@pytest.mark.parametrize("block", [7, 64, 1 << 16])
def test_tail(log, monkeypatch, block):
    monkeypatch.setattr(logs, "_BLOCK", block)
    log.write_bytes(
        out(1, b"one")
        + out(2, b"tw", "P")
        + out(3, b"o")
        + err(4, b"three")
        + out(5, b"four")
        + out(6, b"unfinished", "P")
    )
    lines = [b"one\n", b"two\n", b"three\n", b"four\n", b"unfinished"]
    for count in range(7):
        assert text(read(log, tail=count)) == b"".join(lines[len(lines) - min(count, 5) :])


@pytest.mark.parametrize("block", [50, 1 << 16])
def test_tail_of_many(log, monkeypatch, block):
    monkeypatch.setattr(logs, "_BLOCK", block)
    log.write_bytes(b"".join(out(1, b"%d" % number) for number in range(3000)))
    assert text(read(log, tail=100)) == b"".join(b"%d\n" % number for number in range(2900, 3000))
    with log.open("rb") as stream:
        assert tail_offset(stream, 5000) == 0


def nanoseconds(second: int) -> int:
    return (1_795_476_660 + second) * 10**9


def test_since_and_until(log):
    log.write_bytes(b"".join(out(second, b"%d" % second) for second in range(10)))
    assert text(read(log, since=nanoseconds(7))) == b"7\n8\n9\n"
    assert text(read(log, since=nanoseconds(7) + 1)) == b"8\n9\n"
    assert text(read(log, until=nanoseconds(2))) == b"0\n1\n2\n"
    assert text(read(log, since=nanoseconds(2), until=nanoseconds(3))) == b"2\n3\n"


def test_a_line_goes_by_its_beginning(log):
    log.write_bytes(out(1, b"a", "P") + err(5, b"E") + out(9, b"b") + out(9, b"c"))
    assert text(read(log, since=nanoseconds(5))) == b"E\nc\n"


# --- Following ------------------------------------------------------------------------------------------------------


class Follower:
    """Reads a growing log in a thread, and says when it has seen something."""

    def __init__(self, log: Path, **options) -> None:
        self.ended, self._alive = os.pipe()
        self.pieces: list[Piece] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(log, options), daemon=True)
        self._thread.start()

    def _read(self, log: Path, options) -> None:
        for piece in read(log, follow=True, ended=self.ended, **options):
            with self._news:
                self.pieces.append(piece)
                self._news.notify_all()

    def expect(self, content: bytes) -> None:
        with self._news:
            assert self._news.wait_for(lambda: text(self.pieces) == content, 30), text(self.pieces)

    def end(self) -> None:
        os.close(self._alive)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        os.close(self.ended)


def append(log: Path, content: bytes) -> None:
    with log.open("ab", buffering=0) as stream:
        stream.write(content)


def test_follow(log):
    log.write_bytes(out(1, b"old") + out(1, b"one"))
    follower = Follower(log, tail=1)
    follower.expect(b"one\n")
    append(log, out(2, b"two"))
    follower.expect(b"one\ntwo\n")
    append(log, out(3, b"three")[:20])
    append(log, out(3, b"three")[20:])
    follower.expect(b"one\ntwo\nthree\n")
    append(log, out(4, b"last"))
    follower.end()
    follower.join()
    assert text(follower.pieces) == b"one\ntwo\nthree\nlast\n"


def test_follow_the_ended(log):
    log.write_bytes(out(1, b"one"))
    assert text(read(log, follow=True, ended=None)) == b"one\n"


def test_follow_through_rotation(log):
    """conmon renames a new file over the full one."""
    log.write_bytes(out(1, b"one"))
    follower = Follower(log)
    follower.expect(b"one\n")
    append(log, out(2, b"two"))
    fresh = log.with_suffix(".tmp")
    fresh.write_bytes(out(3, b"three"))
    fresh.rename(log)
    follower.expect(b"one\ntwo\nthree\n")
    append(log, out(4, b"four"))
    follower.expect(b"one\ntwo\nthree\nfour\n")
    follower.end()
    follower.join()


def test_follow_through_truncation(log):
    log.write_bytes(out(1, b"one, which is rather long"))
    follower = Follower(log)
    follower.expect(b"one, which is rather long\n")
    os.truncate(log, 0)
    append(log, out(2, b"two"))
    follower.expect(b"one, which is rather long\ntwo\n")
    follower.end()
    follower.join()


def test_follow_a_removed_container(log):
    log.write_bytes(out(1, b"one"))
    follower = Follower(log)
    follower.expect(b"one\n")
    log.unlink()
    follower.end()
    follower.join()


def test_follow_until(log):
    log.write_bytes(out(1, b"one"))
    follower = Follower(log, until=nanoseconds(2))  # has passed
    follower.join()
    follower.end()


def test_follow_leaves_no_descriptors(log):
    log.write_bytes(out(1, b"one"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        follower = Follower(log)
        follower.expect(b"one\n")
        follower.end()
        follower.join()
    pieces = read(log)
    next(pieces)
    pieces.close()
    assert len(os.listdir("/proc/self/fd")) == before
