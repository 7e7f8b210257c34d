"""Where answers go: to a reader who leaves, to a full disk."""

from __future__ import annotations

import os
import subprocess

import pytest

pytestmark = pytest.mark.root


def test_a_reader_who_leaves_ends_the_command_like_sigpipe(plugrun):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(plugrun.argv("plugin", "ls"), stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["plugin", "ls"], ["--version"]])
def test_an_answer_that_cannot_be_written_is_no_success(plugrun, arguments, unbuffered):
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = plugrun.argv(*arguments) if arguments != ["--version"] else [plugrun.argv()[0], *arguments]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=env)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
