"""A stream that is read ahead in a thread."""

from __future__ import annotations

import io
import threading

import pytest

from images.archives import sha256
from plugrun.errors import InvalidArgument
from plugrun.images.downloads import Cancelled, Download
from plugrun.images.following import Following, ReadAhead

DATA = bytes(range(256)) * 20_000


def test_it_delivers_the_same_bytes():
    assert io.BufferedReader(ReadAhead(io.BytesIO(DATA))).read() == DATA


def test_an_error_comes_where_it_belongs():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if not (data := super().read(size)):
                raise InvalidArgument("wrong in the end")
            return data

    with ReadAhead(Failing(DATA)) as stream:
        got = bytearray(len(DATA))
        view = memoryview(got)
        done = 0
        while done < len(DATA):
            done += stream.readinto(view[done:])
        assert bytes(got) == DATA
        for _ in range(2):
            with pytest.raises(InvalidArgument, match="wrong in the end"):
                stream.readinto(view)


def test_closing_it_early_ends_its_thread_and_closes_its_source():
    before = threading.active_count()
    source = io.BytesIO(DATA * 3)
    stream = ReadAhead(source)
    assert stream.read(10) == DATA[:10]
    stream.close()
    assert source.closed
    assert threading.active_count() == before


def test_closing_it_ends_a_thread_that_waits_for_more():
    waits, told = threading.Event(), []

    def wait_beyond(_position, unwanted):
        waits.set()
        told.append(unwanted.wait(5))
        raise InvalidArgument("given up")

    following = Following(wait_beyond)
    stream = ReadAhead(io.BufferedReader(following), following.give_up)
    assert waits.wait(20)
    stream.close()
    assert told == [True]
    assert following.closed


def test_who_gives_up_is_not_held_by_a_blob_that_does_not_come(tmp_path):
    with Download(tmp_path, sha256(DATA), len(DATA), "layer x", threading.Event()).open() as following:
        following.give_up()
        with pytest.raises(Cancelled, match="reading layer x was given up"):
            following.read(1)
