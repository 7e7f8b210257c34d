"""``--tmpfs``: what a tmpfs can be mounted with, and nothing else."""

from __future__ import annotations

import pytest

from plugrun.cli import parse
from plugrun.errors import InvalidArgument

TAKEN = """
,size=64m size=50%,ro mode=1777,uid=1000,gid=5 mode=0700 nr_inodes=1k,nr_blocks=10 mpol=bind:0-1 rw,exec,suid,dev
noexec,nosuid,nodev noatime,nodiratime strictatime sync,dirsync size=1G,,ro,
rw,noexec,nosuid,size=65536k tmpcopyup,size=1m
"""
SENSELESS = """
size= size=x size=-1 size=1mb size=1.5g size=\u0663 size=99999999999999999999 mode=9 mode=17777 mode=u+x uid=bob gid=-1
nr_inodes=many
"""


@pytest.mark.parametrize("options", ["", *TAKEN.split()])
def test_what_docker_and_podman_take(options):
    assert parse.tmpfs(f"/x:{options}") == ("/x", options)


@pytest.mark.parametrize("option", ["bogus", "size", "noexec=1", "=", "remount", "rshared", "bind", "nosize=1", "RO"])
def test_an_unknown_option(option):
    with pytest.raises(InvalidArgument) as caught:
        parse.tmpfs(f"/x:size=1m,{option}")
    assert str(caught.value) == f"--tmpfs '/x:size=1m,{option}' has the unknown option {option!r}"
    assert caught.value.hint.startswith("use size=…, mode=…, uid=…")


@pytest.mark.parametrize("option", SENSELESS.split())
def test_a_value_that_makes_no_sense(option):
    name, _, value = option.partition("=")
    with pytest.raises(InvalidArgument) as caught:
        parse.tmpfs(f"/x:ro,{option}")
    assert str(caught.value) == f"--tmpfs '/x:ro,{option}': {value!r} is no {name}"
