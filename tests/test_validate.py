"""What users may give: the engine's value, or one line that quotes what is wrong."""

from __future__ import annotations

import signal

import pytest

from plugrun import validate
from plugrun.errors import InvalidArgument

MIB = 1024 * 1024
DIGITS = "9" * 5000  # int() has an error of its own for so many


def refused(check, text, *, quoted=None):
    with pytest.raises(InvalidArgument) as caught:
        check(text)
    message = str(caught.value)
    assert message.isprintable(), "one line, whatever the value"
    assert repr(text if quoted is None else quoted)[1:-1][:20] in message


@pytest.mark.parametrize("name", ["a", "A-1", "web.example.org", "0", "x" * 63])
def test_host_names(name):
    assert validate.hostname(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "a-",
        ".a",
        "a.",
        "a..b",
        "a_b",
        "a b",
        "ä",
        "x" * 64,
        "a\n1.2.3.4 b",
        "a\n",
        "a\r",
        "a\0",
        "a/b",
        "a:b",
    ],
)
def test_no_host_names(name):
    refused(validate.hostname, name)


@pytest.mark.parametrize("text", ["A=", "A=b", "a.b-c=d=e", "_=\n", "ÄÖ=1"])
def test_environment_variables(text):
    assert validate.env(text) == text


@pytest.mark.parametrize("text", ["", "=", "=x", "A B=c", "A\n=c", "A\0=c", "A=\0", "A=b\0c", "\t=x", "A\u2028=b"])
def test_no_environment_variables(text):
    refused(validate.env, text, quoted=text.partition("=")[0])


def test_the_name_of_a_variable_has_no_equals_sign():
    assert validate.env_name("PATH") == "PATH"
    refused(validate.env_name, "A=b")


@pytest.mark.parametrize(
    ("text", "pair"), [("a=b", ("a", "b")), ("a", ("a", "")), ("a=", ("a", "")), ("a=b=c", ("a", "b=c"))]
)
def test_labels(text, pair):
    assert validate.label(text) == pair


@pytest.mark.parametrize("text", ["", "=b", "a\nb=c", "a\0=c"])
def test_no_labels(text):
    refused(validate.label, text)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [
        ("0", 0),
        ("1024", 1024),
        ("7b", 7),
        ("1k", 1024),
        ("1K", 1024),
        ("512m", 512 * MIB),
        ("512MB", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("1.5g", 1536 * MIB),
        (" 1 g ", 1024 * MIB),
        ("1t", MIB * MIB),
        ("1p", MIB * MIB * 1024),
    ],
)
def test_sizes(text, bytes_):
    assert validate.size(text) == bytes_


NO_SIZES = [
    "",
    "m",
    "-1",
    "+1",
    "1x",
    "1mm",
    "0x10",
    "1e3",
    ".5m",
    "1.m",
    "nan",
    "inf",
    "1\0",
    "1 2",
    "٣m",
    "8192p",
    DIGITS,
]


@pytest.mark.parametrize("text", NO_SIZES)
@pytest.mark.parametrize("check", [validate.size, validate.memory])
def test_no_sizes(check, text):
    refused(check, text)


def test_memory_has_a_least_amount():
    assert validate.memory("6m") == 6 * MIB
    refused(validate.memory, "6143k")
    refused(validate.memory, "0")


def test_swap_is_the_sum_of_both_or_unlimited():
    assert validate.memory_and_swap(None, None) == (None, None)
    assert validate.memory_and_swap("64m", None) == (64 * MIB, None)
    assert validate.memory_and_swap("64m", "64m") == (64 * MIB, 64 * MIB)
    assert validate.memory_and_swap("64m", "-1") == (64 * MIB, -1)


@pytest.mark.parametrize(("memory", "swap"), [(None, "64m"), (None, "-1"), ("64m", "63m"), ("64m", "x"), ("64m", "-2")])
def test_swap_that_makes_no_sense(memory, swap):
    with pytest.raises(InvalidArgument):
        validate.memory_and_swap(memory, swap)


@pytest.mark.parametrize(("text", "number"), [("0.01", 0.01), (".5", 0.5), ("1", 1.0), ("2.", 2.0), ("1.25", 1.25)])
def test_cpus(text, number):
    assert validate.cpus(text) == number


@pytest.mark.parametrize(
    "text", ["", "0", "0.009", "-1", "+1", "nan", "inf", "1e3", "1_0", "1,5", " 1", "٣", "100000", DIGITS]
)
def test_no_cpus(text):
    refused(validate.cpus, text)


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("nofile=1024", ("nofile", (1024, 1024))),
        ("nofile=1024:2048", ("nofile", (1024, 2048))),
        ("core=0", ("core", (0, 0))),
        ("memlock=-1", ("memlock", (-1, -1))),
        ("memlock=unlimited", ("memlock", (-1, -1))),
        ("nproc=100:-1", ("nproc", (100, -1))),
        ("fsize=9223372036854775807", ("fsize", (2**63 - 1, 2**63 - 1))),
    ],
)
def test_ulimits(text, limits):
    assert validate.ulimit(text) == limits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nofile",
        "nofile=",
        "nofile=:",
        "nofile=1:",
        "nofile=:1",
        "nofile=1:2:3",
        "nofile=2048:1024",
        "nofile=-1:1024",
        "nofile=-2",
        "nofile=1k",
        "nofile= 1",
        "nofile=٣",
        "nofile=9223372036854775808",
        f"nofile={DIGITS}",
        "NOFILE=1",
        "rlimit=1",
        "=1",
    ],
)
def test_no_ulimits(text):
    refused(validate.ulimit, text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", signal.SIGTERM),
        ("sigterm", signal.SIGTERM),
        ("SIGKILL", signal.SIGKILL),
        ("9", 9),
        ("RTMIN", signal.SIGRTMIN),
        ("RTMIN+3", signal.SIGRTMIN + 3),
        ("SIGRTMAX-1", signal.SIGRTMAX - 1),
        ("64", 64),
    ],
)
def test_signals(text, number):
    assert validate.signal_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIG",
        "0",
        "-9",
        "65",
        DIGITS,
        "NOSUCH",
        "_BLOCK",
        "_DFL",
        "_SETMASK",
        "SYS+4",
        "TERM+1",
        "RTMIN-1",
        "RTMAX+1",
        "RTMIN+",
        "RTMIN+x",
        "RTMIN+٣",
        f"RTMIN+{DIGITS}",
        "TERM\n",
        "٩",
    ],
)
def test_no_signals(text):
    refused(validate.signal_number, text)
