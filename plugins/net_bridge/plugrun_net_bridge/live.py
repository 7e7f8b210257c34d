"""What a table of nftables is in the kernel, asked in a tenth of a millisecond: no library, no text.

From linux/netfilter/nf_tables.h; libnftables is for what changes something, and for what people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Self

from plugrun_net_bridge.netlink import DUMP, NETFILTER, REQUEST, Netlink, attribute, attributes, several

_NFTABLES: Final = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_SET, _GET_ELEMENTS, _GET_GENERATION = 1, 4, 7, 10, 13, 16
_INET: Final = b"\x01\0\0\0"  # struct nfgenmsg: NFPROTO_INET
_HEADER: Final = len(_INET)

# In an answer about a chain, a rule or a set: what it belongs to; the rest differs.
_TABLE, _NAME = 1, 2
_CHAIN_STATIC = (1, 2, 3, 4, 5, 6, 7, 10)  # table, handle, name, hook, policy, rules, type, flags
_RULE_STATIC = (1, 2, 3, 4, 6)  # table, chain, handle, expressions, position
_SET_STATIC = (1, 2, 3, 4, 5, 6, 7, 16)  # table, name, flags, types and lengths, handle
_SET_COUNT = 20  # Linux 6.17
_ELEMENTS, _ELEMENT_FLAGS, _INTERVAL_END = 3, 3, 1


class Live:
    """Looks at the rules of the network namespace in which the calling thread is."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETFILTER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._netlink.__exit__(*exception)

    @property
    def namespace(self) -> str:
        """See :attr:`Netlink.namespace`."""
        return self._netlink.namespace

    def generation(self) -> int:
        """Return a number that each change to any table in the namespace raises by one."""
        (answer,) = self._netlink.ask(_NFTABLES | _GET_GENERATION, bytes(_HEADER))
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
            (found,) = self._netlink.ask(_NFTABLES | _GET_TABLE, _INET + attribute(_TABLE, name))
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

    def _of_table(self, kind: int, name: bytes) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of each chain, rule or set of a table; older kernels list those of others too."""
        for answer in self._netlink.ask(_NFTABLES | kind, _INET + attribute(_TABLE, name), REQUEST | DUMP):
            found = attributes(answer, _HEADER)
            if found.get(_TABLE) == name:
                yield found

    def _count(self, table: str, name: bytes) -> int:
        wanted = _INET + attribute(_TABLE, _name(table)) + attribute(_NAME, name)
        count = 0
        for answer in self._netlink.ask(_NFTABLES | _GET_ELEMENTS, wanted, REQUEST | DUMP):
            elements = attributes(answer, _HEADER).get(_ELEMENTS, b"")
            count += sum(1 for one in several(elements) if not _is_end(one))
        return count


def _name(table: str) -> bytes:
    return table.encode() + b"\0"


def _is_end(element: bytes) -> bool:
    """Whether an element is only where an interval ends."""
    flags = attributes(element).get(_ELEMENT_FLAGS, b"\0")
    return bool(int.from_bytes(flags, "big") & _INTERVAL_END)
