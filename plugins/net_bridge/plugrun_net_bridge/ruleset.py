"""The packet rules of all networks as text for nft(8).

The rules never change. What they know of networks and of published ports is in sets and maps, so that one more costs as
much beside ten thousand others as beside none, and that a change is one transaction of a few elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from plugrun_net_bridge.elements import by_set, of_all

if TYPE_CHECKING:
    from plugrun_net_bridge.elements import Element, Wanted
    from plugrun_net_bridge.mapped import Mapped

SETS: Final = """
    # Bridges; those of internal networks; and of those where our own resolver listens; pairs of a bridge and itself.
    set bridges { typeof iifname; }
    set internal { typeof iifname; }
    set served { typeof iifname; }
    set same { typeof iifname . oifname; }

    # The subnets of each bridge, and of all.
    set own4 { typeof iifname . ip daddr; flags interval; }
    set own6 { typeof iifname . ip6 daddr; flags interval; }
    set subnets4 { typeof ip daddr; flags interval; }
    set subnets6 { typeof ip6 daddr; flags interval; }

    # The interfaces there were when plugrun turned on forwarding.
    set former4 { typeof iifname; }
    set former6 { typeof iifname; }

    # Published ports: at one address of the host, at all, and many in a row that keep their numbers.
    map addrs4 { typeof ip daddr . meta l4proto . th dport : ip daddr . th dport; }
    map addrs6 { typeof ip6 daddr . meta l4proto . th dport : ip6 daddr . th dport; }
    map ports4 { typeof meta l4proto . th dport : ip daddr . th dport; }
    map ports6 { typeof meta l4proto . th dport : ip6 daddr . th dport; }
    map ranges4 { typeof ip daddr . meta l4proto . th dport : ip daddr; flags interval; }
    map ranges6 { typeof ip6 daddr . meta l4proto . th dport : ip6 daddr; flags interval; }
"""

CHAINS: Final = """
    chain before {
        type filter hook prerouting priority raw; policy accept;
        iifname "lo" accept
        # The kernel drops these only after they would have been translated. (It drops what is to ::1 at once.)
        ip daddr 127.0.0.0/8 drop
        # Nobody reaches a container by its address but its own network: also not by a route that a neighbour has set.
        iifname . ip daddr @own4 accept
        iifname . ip6 daddr @own6 accept
        ip daddr @subnets4 drop
        ip6 daddr @subnets6 drop
    }

    chain arriving {
        type nat hook prerouting priority dstnat; policy accept;
        # Without this, what passes through the host to a server elsewhere would be caught too.
        fib daddr type local jump publish
    }

    chain started {
        type nat hook output priority -100; policy accept;
        # Answers would not get back; this way who asks is refused at once.
        ip6 daddr ::1 accept
        fib daddr type local jump publish
    }

    chain publish {
        dnat ip to ip daddr . meta l4proto . th dport map @addrs4
        dnat ip to meta l4proto . th dport map @ports4
        dnat ip to ip daddr . meta l4proto . th dport map @ranges4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @addrs6
        dnat ip6 to meta l4proto . th dport map @ports6
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @ranges6
    }

    chain leaving {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "lo" accept
        # A container that reaches its network's published port must not see the answer come from its neighbour.
        oifname . ip saddr @own4 ct status dnat masquerade
        oifname . ip6 saddr @own6 ct status dnat masquerade
        oifname . ip saddr @own4 accept
        oifname . ip6 saddr @own6 accept
        ip saddr @subnets4 masquerade
        ip6 saddr @subnets6 masquerade
        oifname @bridges ip saddr 127.0.0.0/8 masquerade
    }

    chain passing {
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        iifname . oifname @same accept
        iifname @internal drop
        oifname @internal drop
        # It would not be translated, and show its address outside.
        iifname @bridges ct state invalid drop
        oifname @bridges ct status dnat accept
        oifname @bridges drop
        # The machine must not become a router because a container runs. Where another engine has published a port, or
        # what comes from an interface made since, is for others to say.
        meta nfproto ipv4 iifname @former4 ct status ! dnat drop
        meta nfproto ipv6 iifname @former6 ct status ! dnat drop
    }

    chain entering {
        type filter hook input priority filter; policy accept;
        iifname @internal jump inward
    }

    # The host answers the containers of an internal network, as far as the network itself needs it. Another resolver of
    # the host's would carry what it is asked outside (CVE-2024-29018).
    chain inward {
        ct state established,related accept
        iifname @served iifname . ip daddr @own4 meta l4proto { 6, 17 } th dport 53 accept
        iifname @served iifname . ip6 daddr @own6 meta l4proto { 6, 17 } th dport 53 accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        drop
    }
"""


def whole(table: str, wanted: Wanted) -> str:
    """Return the commands that make the table, in place of the one that may be there."""
    fresh = f"add table inet {table}\ndelete table inet {table}\n"
    return f"{fresh}table inet {table} {{{SETS}{CHAINS}}}\n" + addition(table, of_all(wanted))


def addition(table: str, elements: Iterable[Element | Mapped]) -> str:
    """Return the commands that add elements, those that are there already too."""
    return _commands("add", table, elements)


def removal(table: str, elements: Iterable[Element]) -> str:
    """Return the commands that remove elements, those that are not there too: hence they are added first."""
    elements = list(elements)
    return _commands("add", table, elements) + _commands("delete", table, elements)


def _commands(verb: str, table: str, elements: Iterable[Element | Mapped]) -> str:
    return "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(map(str, some))} }}\n"
        for name, some in by_set(elements).items()
    )
