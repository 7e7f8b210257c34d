"""What a table of nftables is in the kernel, asked in a tenth of a millisecond: no library, no text.

From linux/netfilter/nf_tables.h; libnftables is for what changes something, and for what people read.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from plugrun.api import Unavailable
from plugrun_net_bridge.attributes import attribute, attributes, several
from plugrun_net_bridge.netlink import (
    ACK,
    CREATE,
    DUMP,
    NESTED,
    NETFILTER,
    REQUEST,
    Message,
    Netlink,
)

if TYPE_CHECKING:
    from plugrun_net_bridge.mapped import Mapped

_NFTABLES: Final = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS, _GET_GENERATION = 1, 4, 7, 10, 13, 16
_NEW_ELEMENTS, _DELETE_ELEMENTS = 12, 14
_BEGIN, _END = 16, 17  # NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
_BATCH: Final = b"\0\0\0\x0a"  # struct nfgenmsg: for which subsystem, in network byte order
_RESTART: Final = errno.ERESTART
_IN_MESSAGE: Final = 500  # elements: an attribute has less than 64 KiB
_INET: Final = b"\x01\0\0\0"  # struct nfgenmsg: NFPROTO_INET
_HEADER: Final = len(_INET)

# In an answer about a chain, a rule or a set: what it belongs to; the rest differs.
_TABLE, _NAME = 1, 2
_CHAIN_STATIC = (1, 2, 3, 4, 5, 6, 7, 10)  # table, handle, name, hook, policy, rules, type, flags
_RULE_STATIC = (1, 2, 3, 4, 6)  # table, chain, handle, expressions, position
_SET_STATIC = (1, 2, 3, 4, 5, 6, 7, 16)  # table, name, flags, types and lengths, handle
_DATA, _VALUE = 2, 1
_ONE_ELEMENT, _GENERATION = 1, 1  # NFTA_LIST_ELEM, NFNL_BATCH_GENID
_SET_COUNT = 20  # Linux 6.17
_ELEMENTS, _ELEMENT_FLAGS, _INTERVAL_END = 3, 3, 1


class Outdated(Exception):
    """Somebody has changed rules since the generation that was given."""


_opened: dict[tuple[int, int], Live] = {}


def opened() -> Live:
    """Return what looks at the network namespace in which the calling thread is.

    :raises Unavailable: this needs root, and a kernel with netfilter.

    It stays open: to close such a socket waits, several milliseconds, for the kernel to free what was removed last.
    """
    key = (os.getpid(), os.stat("/proc/thread-self/ns/net").st_ino)
    if key not in _opened:
        for other in _opened.values():
            other.close()
        _opened.clear()
        try:
            _opened[key] = Live()
        except PermissionError:
            raise Unavailable("the packet rules cannot be seen", hint="run as root") from None
        except OSError as error:
            raise Unavailable(f"the kernel has no netfilter: {error.strerror}") from error
    return _opened[key]


class Live:
    """The rules of one network namespace.

    :ivar netlink: the socket, for other questions about packets.
    """

    def __init__(self) -> None:
        self.netlink = Netlink(NETFILTER)
        self.namespace = self.netlink.namespace
        self.close = self.netlink.close

    def generation(self) -> int:
        """Return a number that each change to any table in the namespace raises by one."""
        (answer,) = self.netlink.ask(_NFTABLES | _GET_GENERATION, bytes(_HEADER))
        return int.from_bytes(attributes(answer, _HEADER)[1], "big")

    def fingerprint(self, table: str) -> str | None:
        """Return what is the same as long as nobody touches a table's chains, rules and sets; ``None`` without table.

        It says nothing about what is in the sets. Numbers that the kernel gives once are in it: what was removed and
        made anew differs.
        """
        import hashlib

        name = _name(table)
        digest = hashlib.sha256()
        try:
            (found,) = self.netlink.ask(_NFTABLES | _GET_TABLE, _INET + attribute(_TABLE, name))
        except FileNotFoundError:
            return None
        digest.update(found[_HEADER:])
        for kind, static in ((_GET_CHAIN, _CHAIN_STATIC), (_GET_RULE, _RULE_STATIC), (_GET_SET, _SET_STATIC)):
            for one in self._of_table(kind, name):
                digest.update(repr([one.get(key) for key in static]).encode())
        return digest.hexdigest()

    def counts(self, table: str) -> dict[str, int]:
        """Return how many elements each set and map of a table has."""
        counts = {}
        for one in list(self._of_table(_GET_SET, _name(table))):
            name = one[_NAME]
            if _SET_COUNT in one and not name.startswith(b"subnets"):  # the kernel's count of intervals is a guess
                counts[name.rstrip(b"\0").decode()] = int.from_bytes(one[_SET_COUNT], "big")
            else:
                counts[name.rstrip(b"\0").decode()] = self._count(table, name)
        return counts

    def change(self, table: str, generation: int, removed: Iterable[Mapped], added: Iterable[Mapped]) -> None:
        """Remove and add elements of maps in one transaction; the generation is one more afterwards.

        :raises Outdated: the generation is another one; nothing has changed.
        :raises OSError: an element to be removed is not there, one to be added is with another value, or there is no
            such table; nothing has changed.
        """
        changes = [
            *(_message(_DELETE_ELEMENTS, table, *some) for some in _in_messages(removed, _key)),
            *(_message(_NEW_ELEMENTS, table, *some) for some in _in_messages(added, _key_and_value)),
        ]
        if not changes:
            return
        begin = Message(_BEGIN, REQUEST, _BATCH + attribute(_GENERATION, generation.to_bytes(4, "big")))
        try:
            self.netlink.tell([begin, *changes, Message(_END, REQUEST, _BATCH)])
        except OSError as error:
            raise Outdated if error.errno == _RESTART else error from None

    def has(self, table: str, elements: Iterable[Mapped]) -> list[Mapped]:
        """Return those elements that are there, with these values."""
        return [one for one in elements if self._has(table, one)]

    def _has(self, table: str, element: Mapped) -> bool:
        key = attribute(_ONE_ELEMENT | NESTED, element.raw_key())
        kind, flags, payload = _message(_GET_ELEMENTS, table, element.set, key)
        try:
            (answer,) = self.netlink.ask(kind, payload, flags)
        except FileNotFoundError:
            return False
        (found,) = several(attributes(answer, _HEADER)[_ELEMENTS])
        return attributes(attributes(found)[_DATA])[_VALUE] == element.value

    def _of_table(self, kind: int, name: bytes) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of each chain, rule or set of a table; older kernels list those of others too."""
        for answer in self.netlink.ask(_NFTABLES | kind, _INET + attribute(_TABLE, name), REQUEST | DUMP):
            found = attributes(answer, _HEADER)
            if found.get(_TABLE) == name:
                yield found

    def _count(self, table: str, name: bytes) -> int:
        wanted = _INET + attribute(_TABLE, _name(table)) + attribute(_NAME, name)
        count = 0
        for answer in self.netlink.ask(_NFTABLES | _GET_ELEMENTS, wanted, REQUEST | DUMP):
            elements = attributes(answer, _HEADER).get(_ELEMENTS, b"")
            count += sum(1 for one in several(elements) if not _is_end(one))
        return count


_Part = tuple[str, bytes]


def _in_messages(elements: Iterable[Mapped], raw: Callable[[Mapped], bytes]) -> Iterator[_Part]:
    """Yield a map and some of its elements, no more than a message can carry."""
    in_maps: dict[str, list[bytes]] = {}
    for one in elements:
        in_maps.setdefault(one.set, []).append(attribute(_ONE_ELEMENT | NESTED, raw(one)))
    for name, ready in in_maps.items():
        for place in range(0, len(ready), _IN_MESSAGE):
            yield name, b"".join(ready[place : place + _IN_MESSAGE])


def _key(element: Mapped) -> bytes:
    return element.raw_key()


def _key_and_value(element: Mapped) -> bytes:
    return element.raw_key() + element.raw_value()


def _message(kind: int, table: str, name: str, elements: bytes) -> Message:
    payload = _INET + attribute(_TABLE, _name(table)) + attribute(_NAME, _name(name))
    flags = REQUEST | ACK | (CREATE if kind == _NEW_ELEMENTS else 0)
    return Message(_NFTABLES | kind, flags, payload + attribute(_ELEMENTS | NESTED, elements))


def _name(table: str) -> bytes:
    return table.encode() + b"\0"


def _is_end(element: bytes) -> bool:
    """Whether an element is only where an interval ends."""
    flags = attributes(element).get(_ELEMENT_FLAGS, b"\0")
    return bool(int.from_bytes(flags, "big") & _INTERVAL_END)
