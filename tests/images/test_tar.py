"""The tar reader: every form that archivers write, and no patience with what none of them writes."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from images import layers
from images.layers import END, Dribble, file, header, layer, long_name, number, pax, sealed
from images.sparse_files import old_sparse, sparse_0_0, sparse_0_1, sparse_1_0
from plugrun.errors import DriverError, InvalidArgument, PlugrunError
from plugrun.images.entry import DEFAULT_LIMITS, Entry, EntryType, Limits, printable
from plugrun.images.header import octal
from plugrun.images.tar import read_entries


def read(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Entry]:
    return list(read_entries(io.BytesIO(data), limits))


def one(data: bytes) -> Entry:
    (entry,) = read(data)
    return entry


def contents(data: bytes) -> dict[bytes, bytes]:
    """Read every file's bytes, holes filled."""
    found = {}
    for entry in read_entries(io.BytesIO(data)):
        content = bytearray(entry.size)
        for offset, chunk in entry.chunks():
            content[offset : offset + len(chunk)] = chunk
        found[entry.name] = bytes(content)
    return found


def test_fields_of_a_ustar_header():
    entry = one(layer(file(b"f", b"abc", mode=0o4755, uid=1000, gid=50, mtime=12, prefix=b"usr/bin")))
    assert (entry.name, entry.type, entry.mode) == (b"usr/bin/f", EntryType.REGULAR, 0o4755)
    assert (entry.uid, entry.gid, entry.size, entry.mtime) == (1000, 50, 3, 12_000_000_000)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"0", EntryType.REGULAR),
        (b"\0", EntryType.REGULAR),
        (b"7", EntryType.REGULAR),
        (b"1", EntryType.HARDLINK),
        (b"2", EntryType.SYMLINK),
        (b"3", EntryType.CHARACTER),
        (b"4", EntryType.BLOCK),
        (b"5", EntryType.DIRECTORY),
        (b"6", EntryType.FIFO),
    ],
)
def test_types(kind: bytes, expected: EntryType):
    entry = one(layer(header(b"n", kind, link=b"t", major=8, minor=1)))
    assert entry.type is expected
    assert entry.device == ((8, 1) if expected in {EntryType.CHARACTER, EntryType.BLOCK} else (0, 0))


def test_a_v7_directory_has_a_slash():
    assert one(layer(header(b"d/", b"\0", magic=bytes(8)))).type is EntryType.DIRECTORY


def test_the_prefix_is_not_a_prefix_in_the_gnu_form():
    assert one(layer(header(b"n", magic=b"ustar  \0", prefix=b"14000000000\0"))).name == b"n"


def test_pax_records_win_over_the_header():
    records = pax(
        (b"path", b"real \xff\n name"),
        (b"size", b"3"),
        (b"uid", b"70000"),
        (b"gid", b"4294967294"),
        (b"mtime", b"-1.5"),
        (b"SCHILY.xattr.user.a", b"1\n\0=2"),
        (b"LIBARCHIVE.xattr.user.b%20c", b"AQI"),
    )
    entry = one(layer(records, file(b"short", b"abc", size=0)))
    assert entry.name == b"real \xff\n name"
    assert (entry.size, entry.uid, entry.gid, entry.mtime) == (3, 70000, 4294967294, -1_500_000_000)
    assert entry.xattrs == {"user.a": b"1\n\0=2", "user.b c": b"\x01\x02"}


def test_pax_size_counts_for_the_data():
    data = layer(pax((b"size", b"513")), header(b"a", size=0), layers.padded(bytes(513)), file(b"b", b"x"))
    assert [(e.name, e.size) for e in read(data)] == [(b"a", 513), (b"b", 1)]


def test_pax_records_end_with_their_member():
    assert [e.name for e in read(layer(pax((b"path", b"p")), file(b"a"), file(b"b")))] == [b"p", b"b"]


def test_an_empty_pax_value_means_the_header():
    assert one(layer(pax((b"path", b"")), file(b"a"))).name == b"a"


def test_global_records_are_defaults():
    data = layer(
        pax((b"comment", b"c0ffee"), (b"mtime", b"5"), kind=b"g"), file(b"a"), pax((b"mtime", b"7")), file(b"b")
    )
    assert [e.mtime for e in read(data)] == [5_000_000_000, 7_000_000_000]


def test_gnu_long_names():
    name, target = b"d/" * 200 + b"n", b"t" * 200
    entry = one(layer(long_name(name), long_name(target, b"K"), layers.symlink(b"x", b"y")))
    assert (entry.name, entry.linkname) == (name, target)


@pytest.mark.parametrize("value", [0, 7, 0o7777777, 1 << 40, -1, -(1 << 40)])
def test_numbers(value: int):
    assert octal(number(value, 12)) == value


@pytest.mark.parametrize("field", [b"  644 \0", b"0000644\0", b"644\0junk", b"644"])
def test_octal_spellings(field: bytes):
    assert octal(field) == 0o644


NO_NUMBERS = [b"0000648\0", b"-000644\0", b"0x644\0", b"6_44\0", b"\x81" + bytes(7), b"+1", b"0o7"]


@pytest.mark.parametrize("field", NO_NUMBERS)
def test_what_is_no_number(field: bytes):
    with pytest.raises(InvalidArgument, match="number"):
        octal(field)


def test_signed_checksums_are_accepted():
    block = bytearray(header(b"\xff\xfe"))
    total = sum(block[:148]) + sum(block[156:]) + 8 * 0x20 - 2 * 256
    block[148:156] = b"%06o\0 " % total
    assert one(layer(bytes(block))).name == b"\xff\xfe"


def test_data_comes_in_bounded_chunks_and_unread_data_is_passed_over():
    data = bytes(range(256)) * 12_000
    members = layer(file(b"big", data), file(b"skipped", data), file(b"last", b"end"))
    entries = read_entries(Dribble([members], step=4093))
    assert b"".join(chunk for _, chunk in next(entries).chunks()) == data
    next(entries)
    assert b"".join(chunk for _, chunk in next(entries).chunks()) == b"end"
    assert next(entries, None) is None


@pytest.mark.parametrize("after", [b"", b"garbage", bytes(10_000), b"\xff" * 3_000_000])
def test_the_stream_is_read_to_its_end(after: bytes):
    stream = Dribble([layer(file(b"a", b"x")), after])
    assert len(list(read_entries(stream))) == 1
    assert stream.ended


@pytest.mark.parametrize("data", [b"", END, bytes(512)])
def test_an_archive_may_be_empty(data: bytes):
    assert read(data) == []


def test_the_end_of_the_stream_ends_the_archive():
    assert len(read(file(b"a", b"x"))) == 1


@pytest.mark.parametrize("cut", [1, 300, 511, 513, 1000, 1023, 1025, 1111])
def test_truncation_is_noticed(cut: int):
    whole = file(b"a", bytes(600)) + file(b"b")
    with pytest.raises(InvalidArgument, match="truncated"):
        read(whole[:cut])


@pytest.mark.parametrize("cut", [1112, 1300, 1535, 1536])
def test_the_last_entry_needs_no_padding_as_umoci_writes_none(cut: int):
    whole = file(b"a", bytes(600)) + file(b"b")
    assert [(entry.name, entry.size) for entry in read(whole[:cut])] == [(b"a", 600)]


SPARSE = [sparse_1_0, old_sparse, sparse_0_1, sparse_0_0]


@pytest.mark.parametrize("build", SPARSE)
@pytest.mark.parametrize("count", [1, 4, 5, 26, 60])
def test_sparse_files(build, count: int):
    segments = [(1000 * n, 10) for n in range(count)] + [(1000 * count, 0)]
    data = bytes(n % 251 for n in range(10 * count))
    expected = bytearray(1000 * count)
    for n in range(count):
        expected[1000 * n : 1000 * n + 10] = data[10 * n : 10 * n + 10]
    found = contents(layer(build(1000 * count, segments, data), file(b"next", b"x")))
    assert found == {b"sparse": bytes(expected), b"next": b"x"}


BAD_MAPS = {
    "overlap": (100, [(0, 10), (5, 10)]),
    "descending": (100, [(50, 10), (0, 10)]),
    "past the end": (100, [(90, 20)]),
    "less data than segments": (100, [(0, 30)]),
    "more data than segments": (100, [(0, 10)]),
    "negative offset": (100, [(-20, 20)]),
    "negative length": (100, [(0, 30), (40, -10)]),
    "negative size": (-100, [(0, 20)]),
}


@pytest.mark.parametrize("build", SPARSE)
@pytest.mark.parametrize("name", BAD_MAPS)
def test_sparse_maps_that_lie(build, name: str):
    with pytest.raises(InvalidArgument):
        contents(layer(build(*BAD_MAPS[name], bytes(20))))


@pytest.mark.parametrize("build", SPARSE)
def test_sparse_maps_are_bounded(build):
    data = layer(build(10_000, [(n, 1) for n in range(100)], bytes(100)))
    assert len(read(data, Limits(segments=100))) == 1
    with pytest.raises(InvalidArgument, match="more than 50 segments"):
        read(data, Limits(segments=50))


LONG = b"a/" * 2040

REFUSED = {
    "wrong checksum": (sealed(header(b"a"))[:-1] + b"x", "checksum"),
    "not a tar at all": (b"\x7fELF" * 128, "checksum"),
    "compressed": (b"\x1f\x8b\x08" + bytes(509), "checksum"),
    "negative size": (header(b"a", size=-512), "negative"),
    "huge size": (header(b"a", size=1 << 60), "are allowed"),
    "size with a sign": (sealed(header(b"a")[:124] + b"-0000000512\0" + header(b"a")[136:]), "number"),
    "negative uid": (header(b"a", uid=-1), "id -1"),
    "uid that means none": (pax((b"uid", b"4294967295")) + file(b"a"), "id 4294967295"),
    "uid beyond 32 bits": (pax((b"uid", b"4294967296")) + file(b"a"), "id 4294967296"),
    "far time": (header(b"a", mtime=1 << 80), "time stamp"),
    "unknown type": (header(b"a", b"Z"), "unknown type"),
    "multi-volume": (header(b"a", b"M"), "unknown type"),
    "sparse without GNU magic": (header(b"a", b"S"), "unknown type"),
    "no name": (header(b""), "without a name"),
    "empty GNU name": (long_name(b"") + header(b""), "without a name"),
    "NUL in a PAX path": (pax((b"path", b"a\0b")) + file(b"x"), "NUL"),
    "NUL in a PAX link": (pax((b"linkpath", b"a\0b")) + layers.symlink(b"x", b"y"), "NUL"),
    "NUL in a GNU name": (long_name(b"a\0b") + file(b"x"), "NUL"),
    "NUL in an xattr name": (pax((b"SCHILY.xattr.user.a\0b", b"")) + file(b"x"), "NUL"),
    "long path": (pax((b"path", LONG + b"a" * 20)) + file(b"x"), "more than 4096"),
    "long link": (pax((b"linkpath", b"b" * 4097)) + layers.symlink(b"x", b"y"), "more than 4096"),
    "long component": (pax((b"path", b"d/" + b"c" * 256)) + file(b"x"), "more than 255"),
    "long GNU name": (long_name(b"n" * 5000) + file(b"x"), "are allowed"),
    "PAX path and GNU name": (pax((b"path", b"p")) + long_name(b"g") + file(b"x"), "both"),
    "two PAX headers": (pax((b"path", b"p")) * 2 + file(b"x"), "two PAX"),
    "two GNU names": (long_name(b"g") * 2 + file(b"x"), "two long"),
    "PAX header for nothing": (pax((b"path", b"p")) + END, "truncated"),
    "GNU name for nothing": (long_name(b"p") + END, "truncated"),
    "global path": (pax((b"path", b"p"), kind=b"g") + file(b"x"), "global"),
    "global size": (pax((b"size", b"1"), kind=b"g") + file(b"x"), "global"),
    "global xattr": (pax((b"SCHILY.xattr.user.a", b"1"), kind=b"g") + file(b"x"), "global"),
    "record of length zero": (file(b"p", b"0 path=a\n", kind=b"x") + file(b"x"), "malformed"),
    "record too short": (file(b"p", b"3 path=a\n", kind=b"x") + file(b"x"), "malformed"),
    "record too long": (file(b"p", b"99 path=a\n", kind=b"x") + file(b"x"), "malformed"),
    "record with a negative length": (file(b"p", b"-9 path=a\n", kind=b"x") + file(b"x"), "malformed"),
    "record with a huge length": (file(b"p", b"9" * 5000 + b" path=a\n", kind=b"x") + file(b"x"), "malformed"),
    "record without a keyword": (file(b"p", b"5 =a\n", kind=b"x") + file(b"x"), "malformed"),
    "record without an equals sign": (file(b"p", b"9 pathxa\n", kind=b"x") + file(b"x"), "malformed"),
    "record without a newline": (file(b"p", b"9 path=ab", kind=b"x") + file(b"x"), "malformed"),
    "negative PAX size": (pax((b"size", b"-512")) + file(b"x"), "number"),
    "PAX size with an underscore": (pax((b"size", b"1_0")) + file(b"x"), "number"),
    "PAX time that is a word": (pax((b"mtime", b"nan")) + file(b"x"), "time"),
    "PAX time without end": (pax((b"mtime", b"1" * 400)) + file(b"x"), "time"),
    "bad base64": (pax((b"LIBARCHIVE.xattr.user.a", b"A")) + file(b"x"), "base64"),
    "directory with data": (header(b"d/", b"5", size=512) + file(b"x"), "with data"),
    "symlink with data": (header(b"d", b"2", link=b"t", size=512) + file(b"x"), "with data"),
    "device with data": (header(b"d", b"3", size=512) + file(b"x"), "with data"),
    "file with a slash": (file(b"d/"), "slash"),
    "symlink without target": (layers.symlink(b"l", b""), "no target"),
    "hard link without target": (layers.hardlink(b"l", b""), "no target"),
    "single zero block": (file(b"a") + bytes(512) + file(b"b"), "single zero block"),
    "unknown sparse format": (pax((b"GNU.sparse.major", b"2")) + file(b"a"), "unknown format"),
    "sparse without a size": (pax((b"GNU.sparse.map", b"0,0")) + file(b"a"), "number"),
    "sparse map of odd length": (
        pax((b"GNU.sparse.map", b"0,0,1"), (b"GNU.sparse.size", b"1")) + file(b"a"),
        "malformed map",
    ),
    "sparse directory": (pax((b"GNU.sparse.name", b"s")) + layers.directory(b"d"), "cannot be sparse"),
    "sparse map without newline": (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"1"))
        + file(b"a", b"1" * 5000),
        "malformed map",
    ),
    "1 TiB sparse file": (sparse_1_0(1 << 40, [(0, 1)], b"x"), "are allowed"),
    "1 TiB sparse file, old form": (old_sparse(1 << 40, [(0, 1)], b"x"), "are allowed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str):
    data, why = REFUSED[name]
    with pytest.raises(InvalidArgument, match=why) as caught:
        read(data + END)
    assert str(caught.value).isprintable()


def test_a_hard_link_has_no_data_whatever_its_size_says():
    assert [e.name for e in read(layer(header(b"l", b"1", link=b"t", size=5000), file(b"next")))] == [b"l", b"next"]


def test_longest_names_are_accepted():
    name = LONG + b"a" * 16
    assert one(layer(pax((b"path", name)), file(b"x"))).name == name


@pytest.mark.parametrize(
    ("limits", "why"), [(Limits(total=4000), "larger than 4000 bytes"), (Limits(members=9), "more than 9 members")]
)
def test_totals_are_bounded(limits: Limits, why: str):
    with pytest.raises(InvalidArgument, match=why):
        read(layer(*[file(b"a", b"x")] * 10), limits)


def test_extension_headers_count_as_members():
    endless = (pax((b"comment", b"x"), kind=b"g") for _ in iter(int, 1))
    with pytest.raises(InvalidArgument, match="members"):
        list(read_entries(Dribble(endless), Limits(members=500)))


def test_a_huge_pax_header_is_refused_before_it_is_read():
    stream = Dribble([header(b"p", b"x", size=1 << 30), *[bytes(1 << 20)] * 1024])
    with pytest.raises(InvalidArgument, match="1073741824"):
        list(read_entries(stream))
    assert stream.served <= 2 << 20


MEMORY_PROBE = """
from images import layers
from plugrun.errors import InvalidArgument
from plugrun.images.tar import read_entries
big = [bytes(1 << 20)] * 1024
bombs = [
    [layers.header(b"p", b"x", size=1 << 30), *big],
    [layers.header(b"p", b"L", size=1 << 30), *big],
    [layers.header(b"f", size=1 << 30), *big, layers.END],
    [b"".join(layers.pax((b"mtime", b"%d" % n), kind=b"g") for n in range(99)) for _ in range(300)],
    [layers.pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")), layers.header(b"s", size=1 << 30)]
    + [b"100000\\n"] + [b"1\\n" * (1 << 19)] + big,
    [layers.pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")), layers.header(b"s", size=1 << 30)]
    + [b"100000\\n"] + [b"1" * (1 << 20)] + big,
]
for bomb in bombs:
    try:
        for entry in read_entries(layers.Dribble(bomb)):
            for _ in entry.chunks(): pass
    except InvalidArgument:
        pass
# Not ru_maxrss: that survives execve(2), so it is at least what the test's own process has.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def test_bombs_need_little_memory():
    tests = str(Path(__file__).parents[1])
    probe = [sys.executable, "-c", MEMORY_PROBE]
    run = subprocess.run(probe, capture_output=True, text=True, check=True, env={"PYTHONPATH": tests})
    assert int(run.stdout) < 100 << 10  # KiB


def test_a_failing_stream_is_one_sentence():
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(DriverError, match="Input/output error"):
        list(read_entries(Broken()))


@pytest.mark.parametrize(
    "name", [b"\x1b]0;x\x07", b"a\nb", "\u202etxt.exe".encode(), b"\xff\xfe", b"\x9b2J", b"n" * 5000]
)
def test_names_in_messages_are_harmless(name: bytes):
    assert printable(name).isprintable()
    assert len(printable(name)) < 1100


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_tarfile_writes(form: int):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for number_, name in enumerate(["a", "d/" * 40 + "long", "ü" * 40]):
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = number_, 5000 * number_, 77
            archive.addfile(info, io.BytesIO(b"xyz"[:number_]))
    entries = read(buffer.getvalue())
    assert [(e.name.decode(), e.size, e.uid, e.mtime) for e in entries] == [
        ("a", 0, 0, 77_000_000_000),
        ("d/" * 40 + "long", 1, 5000, 77_000_000_000),
        ("ü" * 40, 2, 10000, 77_000_000_000),
    ]


SEEDS = [
    layer(pax((b"path", b"p"), (b"SCHILY.xattr.user.a", b"1")), file(b"a", b"x" * 700), long_name(b"l"), file(b"b")),
    layer(sparse_1_0(5000, [(0, 10), (1000, 10)], bytes(20)), file(b"n", b"x")),
    layer(old_sparse(9000, [(1000 * n, 2) for n in range(8)], bytes(16)), layers.symlink(b"s", b"t")),
    layer(sparse_0_0(5000, [(0, 10)], bytes(10)), layers.hardlink(b"h", b"s"), layers.directory(b"d/")),
]


def mutate(data: bytes, chance: random.Random) -> bytes:
    block = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(block))
        match chance.randrange(4):
            case 0:
                block[at] = chance.randrange(256)
            case 1:
                block[at : at + 1] = chance.choice([b"", b"0", b"9", b"\xff", b"\0" * 12, b"\x80", b" ", b"\n", b"="])
            case 2:
                block[at:at] = block[chance.randrange(len(block)) :][: chance.randint(0, 600)]
            case 3:
                del block[at:]
                block += bytes(chance.randint(0, 600))
    for start in range(0, len(block) - 511, 512):  # mostly right checksums, or nothing behind them is ever reached
        if chance.random() < 0.9 and any(block[start : start + 512]):
            block[start : start + 512] = sealed(bytes(block[start : start + 512]))
    return bytes(block)


def test_fuzzed_archives_are_read_or_refused():
    chance = random.Random(2)
    outcomes = {"read": 0, "refused": 0}
    for round_ in range(4000):
        data = mutate(SEEDS[round_ % len(SEEDS)], chance)
        try:
            for entry in read_entries(io.BytesIO(data), Limits(total=1 << 20, file_size=1 << 20)):
                assert sum(len(chunk) for _, chunk in entry.chunks()) <= len(data)
            outcomes["read"] += 1
        except PlugrunError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 200
