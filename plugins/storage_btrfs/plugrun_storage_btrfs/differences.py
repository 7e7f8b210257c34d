"""Where a subvolume differs from its parent, at the cost of what differs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

import btrfsutil
from plugrun.api import Changed, DriverError
from plugrun_storage_btrfs import ioctl, items, stream, subvolumes


def changes(copy: str, original: str, parent: str) -> Iterator[Changed]:
    """Yield where ``original`` differs from ``parent``: see :class:`plugrun.api.SupportsChanges`.

    :param copy: a read-only snapshot of ``original``, which itself says only which subvolumes are nested in it.
    :param parent: a read-only subvolume.
    :raises OSError: the kernel gave up.
    :raises DriverError: its answer makes no sense.
    """
    yield from _sent(copy, parent)
    try:
        for name in items.names_of_links(copy, items.last_change(parent)):  # the stream gives one name of each
            yield Changed(name)
    except OverflowError:  # one has more names than the kernel tells
        yield Changed(b"", whole=True)
    for inner in {*subvolumes.nested(original), *subvolumes.nested(parent)}:  # unknown to the stream
        yield Changed(os.fsencode(inner), whole=True)


def _sent(copy: str, parent: str) -> Iterator[Changed]:
    """Yield what the kernel's send stream says, while it comes: only as much as a pipe holds is ever waiting."""
    failures: list[OSError] = []

    def send(descriptor: int, pipe: int) -> None:
        try:
            ioctl.send(descriptor, parent_id, pipe)
        except OSError as error:
            failures.append(error)
        finally:
            os.close(pipe)

    parent_id = btrfsutil.subvolume_id(parent)
    with ioctl.opened(copy) as descriptor, contextlib.ExitStack() as ending:
        exit_, entry = os.pipe2(os.O_CLOEXEC)
        sender = threading.Thread(target=send, args=(descriptor, entry), daemon=True)
        ending.callback(sender.join)
        answer = ending.enter_context(open(exit_, "rb"))  # closed first: that ends the sender, whatever is left
        sender.start()
        try:
            yield from stream.changes(answer.read)
        except DriverError:  # because the stream ends early: why it does, says more
            sender.join()
            if failures:
                raise failures[0] from None
            raise
