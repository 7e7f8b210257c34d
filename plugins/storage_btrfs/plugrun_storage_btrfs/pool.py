"""A btrfs in a file, for machines whose disk has another file system."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from plugrun.api import DriverError, Unavailable
from plugrun_storage_btrfs.ioctl import resize_to_device


def make(file: Path) -> None:
    """Write a btrfs into a file of its full size.

    :raises Unavailable: mkfs.btrfs is not installed.
    :raises DriverError: it failed; with what it said.
    """
    command = ["mkfs.btrfs", "--quiet", "--label", "plugrun", os.fspath(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Unavailable("mkfs.btrfs is not installed", hint="install the Debian package btrfs-progs") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.removeprefix("ERROR: ").split())
        raise DriverError(
            f"mkfs.btrfs cannot make a btrfs in {file}: {said}", hint="choose another file, or a larger size"
        )


def grow(mount_point: Path) -> None:
    """Make a mounted btrfs as large as its device.

    :raises DriverError: the kernel refused.
    """
    try:
        resize_to_device(mount_point)
    except OSError as error:
        raise DriverError(
            f"cannot grow the btrfs at {mount_point}: {error.strerror}", hint="the kernel log (dmesg) may say why"
        ) from error
