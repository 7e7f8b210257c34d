"""Blobs on their way into the store: continued, shared between processes, read while they grow, never wrong."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from images.archives import sha256
from plugrun import locks
from plugrun.errors import Interrupted, InvalidArgument, Unavailable
from plugrun.images import downloads
from plugrun.images.downloads import Cancelled, Download

DATA = bytes(range(256)) * 3000


class Impatient(threading.Event):
    """An event that nobody waits for in vain."""

    def wait(self, timeout=None):
        return super().wait(0 if timeout else None)


class Body:
    """What a registry sends, from an offset; breaks off after so many bytes."""

    def __init__(self, data, offset=0, *, breaks=None):
        self.offset = offset
        self.closed = False
        self.rest = data[offset:]
        self.breaks = breaks

    def readinto(self, buffer):
        count = min(len(buffer), len(self.rest), 10_000 if self.breaks is None else self.breaks)
        if self.breaks is not None:
            self.breaks -= count
            if count == 0:
                raise Interrupted("broke off")
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count

    def close(self):
        self.closed = True


class Source:
    """Opens one body after the other, and notes where each was to begin."""

    def __init__(self, *bodies):
        self.bodies = list(bodies)
        self.asked = []

    def __call__(self, offset):
        self.asked.append(offset)
        body = self.bodies.pop(0) if self.bodies else (lambda at: Body(DATA, at))
        return body(offset)


@pytest.fixture
def kept():
    return []


@pytest.fixture
def download(tmp_path):
    made = []

    def make(data=DATA, *, size=None, stop=None):
        made.append(Download(tmp_path, sha256(data), size or len(data), "layer x", stop or Impatient()))
        return made[-1]

    yield make
    for one in made:
        one.close()


def remains(tmp_path):
    return [path.read_bytes() for path in (tmp_path / "downloads").iterdir()]


def leave(tmp_path, data, of=DATA):
    place = downloads.area(tmp_path)
    place.mkdir(exist_ok=True)
    path = place / sha256(of).replace(":", "-")
    path.write_bytes(data)
    return path


def test_a_blob_is_kept_once_it_is_verified(download, tmp_path):
    seen = []
    one = download()
    one.fetch(Source(), lambda path: seen.append(path.read_bytes()))
    assert seen == [DATA]
    one.forget()
    assert remains(tmp_path) == []


def test_what_broke_off_is_continued_where_it_was(download, kept):
    source = Source(lambda at: Body(DATA, at, breaks=100_000), lambda at: Body(DATA, at, breaks=300_000))
    download().fetch(source, kept.append)
    assert source.asked == [0, 100_000, 400_000]
    assert kept[0].read_bytes() == DATA


def test_a_registry_without_ranges_repeats_what_is_here(download, kept):
    source = Source(lambda at: Body(DATA, at, breaks=100_000), lambda _: Body(DATA, 0))
    download().fetch(source, kept.append)
    assert kept[0].read_bytes() == DATA


def test_a_registry_that_leaves_something_out_is_not_believed(download, kept, tmp_path):
    source = Source(lambda at: Body(DATA, at, breaks=100_000), lambda at: Body(DATA, at + 1))
    with pytest.raises(Unavailable, match="from byte 100001, not 100000"):
        download().fetch(source, kept.append)
    assert kept == []


def test_little_at_a_time_is_not_waited_for_for_ever(download, kept, tmp_path):
    source = Source(*[lambda at: Body(DATA, at, breaks=100)] * 50)
    with pytest.raises(Interrupted):
        download().fetch(source, kept.append)
    assert len(source.asked) == 6
    assert remains(tmp_path) == [DATA[:600]]


def test_slow_tries_are_not_repeated(download, kept, monkeypatch):
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(clock))
    source = Source(*[lambda at: Body(DATA, at, breaks=100)] * 50)
    with pytest.raises(Interrupted):
        download().fetch(source, kept.append)
    assert source.asked == [0]


def test_a_slow_try_that_brought_much_is_repeated(download, kept, monkeypatch):
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(clock))
    source = Source(lambda at: Body(DATA, at, breaks=100_000))
    download().fetch(source, kept.append)
    assert source.asked == [0, 100_000]


def test_every_body_is_closed(download, kept):
    bodies = [Body(DATA, 0, breaks=100_000), Body(DATA, 100_000)]
    opened = iter(bodies)
    download().fetch(lambda _: next(opened), kept.append)
    assert all(body.closed for body in bodies)


def test_what_an_earlier_process_left_is_continued(download, kept, tmp_path):
    leave(tmp_path, DATA[:500_000])
    source = Source()
    one = download()
    one.fetch(source, kept.append)
    assert source.asked == [500_000]
    assert one.resumed == 500_000
    assert kept[0].read_bytes() == DATA


def test_a_complete_one_is_verified_and_not_fetched(download, kept, tmp_path):
    leave(tmp_path, DATA)
    source = Source()
    download().fetch(source, kept.append)
    assert source.asked == []
    assert len(kept) == 1


def test_remains_of_something_else_are_removed(download, kept, tmp_path):
    leave(tmp_path, b"x" * 1000)
    one = download()
    with pytest.raises(InvalidArgument, match="corrupt"):
        one.fetch(Source(), kept.append)
    assert one.resumed
    assert kept == []
    assert remains(tmp_path) == []


def test_remains_that_are_too_long_are_fetched_anew(download, kept, tmp_path):
    leave(tmp_path, DATA + b"x")
    download().fetch(Source(), kept.append)
    assert kept[0].read_bytes() == DATA


def test_a_wrong_byte_is_found_and_nothing_is_left(download, kept, tmp_path):
    wrong = DATA[:-1] + b"?"
    with pytest.raises(InvalidArgument, match="layer x is corrupt"):
        download().fetch(lambda at: Body(wrong, at), kept.append)
    assert kept == []
    assert remains(tmp_path) == []


def test_more_than_there_should_be_is_refused(download, kept, tmp_path):
    with pytest.raises(InvalidArgument, match="longer than the 1000 bytes"):
        download(size=1000).fetch(Source(), kept.append)
    assert kept == []
    assert remains(tmp_path) == []


def test_a_full_disk_keeps_nothing(download, kept, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads.os, "pwrite", full)
    with pytest.raises(Unavailable, match=r"no space left on the disk of .* for layer x"):
        download().fetch(Source(), kept.append)
    assert remains(tmp_path) == []


def test_it_is_read_while_it_comes(download, kept):
    more = threading.Event()

    class Slow(Body):
        def readinto(self, buffer):
            if len(self.rest) < len(DATA) // 2:
                assert more.wait(20)
            return super().readinto(buffer)

    one = download()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(one.fetch, lambda at: Slow(DATA, at), kept.append)
        with one.open() as stream:
            first = stream.read(300_000)
            assert first == DATA[: len(first)]
            assert first
            more.set()
            rest = stream.readall()
        job.result()
    assert first + rest == DATA


def test_its_end_is_not_seen_before_it_is_verified(download, kept):
    one = download()
    with pytest.raises(InvalidArgument):
        one.fetch(lambda at: Body(DATA[:-1] + b"?", at), kept.append)
    with one.open() as stream, pytest.raises(InvalidArgument, match="corrupt"):
        stream.readall()


def test_who_waits_for_a_blob_that_is_given_up_is_told(download):
    one = download()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.open().read, 1)
        one.cancel()
        with pytest.raises(Cancelled):
            waiting.result(20)


def test_giving_up_keeps_what_is_here(download, kept, tmp_path):
    stop = threading.Event()

    class Stopping(Body):
        def readinto(self, buffer):
            if len(self.rest) < len(DATA) // 2:
                stop.set()
            return super().readinto(buffer)

    with pytest.raises(Cancelled):
        download(stop=stop).fetch(lambda at: Stopping(DATA, at), kept.append)
    (left,) = remains(tmp_path)
    assert left
    assert left == DATA[: len(left)]


def test_two_that_want_the_same_blob_fetch_it_once(download, kept):
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(Body):
        def readinto(self, buffer):
            arrived.set()
            assert go_on.wait(20)
            return super().readinto(buffer)

    first, second, source = download(), download(stop=threading.Event()), Source()
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.fetch, lambda at: Slow(DATA, at), kept.append)
        assert arrived.wait(20)
        other = pool.submit(second.fetch, source, kept.append)
        go_on.set()
        one.result(20)
        other.result(20)
    assert source.asked == []
    assert [path.read_bytes() for path in kept] == [DATA, DATA]


def test_what_came_into_the_store_meanwhile_is_not_fetched(download, kept, tmp_path):
    stored = tmp_path / "stored"
    stored.write_bytes(DATA)
    source, one = Source(), download()
    one.fetch(source, kept.append, lambda: stored)
    assert source.asked == []
    assert kept == []
    assert remains(tmp_path) == []
    assert one.open().readall() == DATA


@pytest.mark.parametrize("size", [1000, len(DATA) + 1000])
def test_a_blob_that_is_stored_is_never_written_to(download, kept, tmp_path, size):
    stored = tmp_path / "stored"
    download().fetch(Source(), stored.hardlink_to)  # and its process is killed before it forgets the file
    with pytest.raises(InvalidArgument, match="corrupt"):
        download(size=size).fetch(lambda at: Body(b"x" * size, at), kept.append)
    assert stored.read_bytes() == DATA
    assert kept == []
    assert remains(tmp_path) == []


def test_who_is_done_leaves_the_file_to_another_process_that_uses_it(download, kept, tmp_path):
    first, second = download(), download(stop=threading.Event())
    first.fetch(Source(), kept.append)

    def keep(path):
        first.forget()
        kept.append(path.read_bytes())

    second.fetch(Source(), keep)
    assert kept[1] == DATA
    second.forget()
    assert remains(tmp_path) == []


def test_only_old_remains_are_removed(tmp_path):
    old, new, busy = (leave(tmp_path, text, of=text) for text in (b"old", b"new", b"busy"))
    for path in (old, busy):
        os.utime(path, (0, 0))
    descriptor = locks.try_acquire(busy)
    try:
        assert downloads.remove_old(tmp_path) == 3
    finally:
        os.close(descriptor)
    assert not old.exists()
    assert new.exists()
    assert busy.exists()
    assert downloads.remove_old(tmp_path, max_age=0) == 7


def test_there_need_be_no_downloads(tmp_path):
    assert downloads.remove_old(tmp_path) == 0
