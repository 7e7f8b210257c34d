"""A stream that is read ahead in a thread."""

from __future__ import annotations

import io
import threading

import pytest

from plugrun.errors import InvalidArgument
from plugrun.images.following import ReadAhead

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
