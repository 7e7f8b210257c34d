"""The ``nft`` rules of :mod:`plain_bridge`: one table, made anew from the leases with every change."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from plugrun.api import DriverError, FailedPrecondition, InvalidArgument, PortMapping

Leases = dict[str, dict[str, Any]]
Free = Callable[[PortMapping], bool]

TABLE = """
table inet plain {{
    chain prerouting {{ type nat hook prerouting priority dstnat;
{ports}
    }}
    chain output {{ type nat hook output priority -100;
{ports}
    }}
    chain postrouting {{ type nat hook postrouting priority srcnat;
{masquerade}
    }}
    chain forward {{ type filter hook forward priority 0;
{isolation}
    }}
}}
"""
REMOVE = "table inet plain\ndelete table inet plain\n"


def set_rules(leases: Leases) -> None:
    nft(rules=REMOVE + (TABLE.format(**chains(leases)) if leases else ""))


def reload_rules(leases: Leases, *, force: bool) -> bool:
    missing = bool(leases) and "table inet plain" not in nft("list", "tables")
    if missing or force:
        set_rules(leases)
    return missing


def chains(leases: Leases) -> dict[str, str]:
    bridges = {(lease["bridge"], subnet, lease["internal"]) for lease in leases.values() for subnet in lease["subnets"]}
    masquerade, isolation = [], []
    for bridge, subnet, internal in sorted(bridges):
        family = "ip6" if ":" in subnet else "ip"
        masquerade.append(f'{family} saddr {subnet} oifname != "{bridge}" masquerade')
        if internal:
            isolation.append(f'iifname "{bridge}" oifname != "{bridge}" drop')
            isolation.append(f'oifname "{bridge}" iifname != "{bridge}" drop')
        isolation.append(f'iifname "{bridge}" oifname "pb*" oifname != "{bridge}" drop')
    published = [(lease, PortMapping(*port)) for lease in leases.values() for port in lease["ports"]]
    ports = [rule for lease, port in published for rule in forwards(lease, port)]
    answer = {"ports": ports, "masquerade": masquerade, "isolation": isolation}
    return {chain: "\n".join(rules) for chain, rules in answer.items()}


def forwards(lease: dict[str, Any], port: PortMapping) -> list[str]:
    rules = []
    for address in (one.partition("/")[0] for one in lease["addresses"]):
        version, target = ("ip6", f"[{address}]") if ":" in address else ("ip", address)
        if port.host_address and (":" in port.host_address) != (version == "ip6"):
            continue
        where = f"{version} daddr {port.host_address}" if port.host_address else f"meta nfproto {family(version)}"
        for offset in range(port.size):
            to = f"{target}:{port.container_port + offset}"
            match = f"{where} fib daddr type local {port.protocol} dport {port.host_port + offset}"
            rules.append(f"{match} dnat {version} to {to}")
    return rules


def family(version: str) -> str:
    return "ipv6" if version == "ip6" else "ipv4"


def claim_ports(wanted: Sequence[PortMapping], mine: str, leases: Leases, free: Free) -> tuple[PortMapping, ...]:
    """Settle every host port and see that each is free, but for those that are published already."""
    own = [PortMapping(*port) for port in leases[mine]["ports"]]
    others = [PortMapping(*port) for name, lease in leases.items() if name != mine for port in lease["ports"]]
    claimed: list[PortMapping] = []
    for asked in wanted:
        port = asked if asked.host_port else choose(asked, [*others, *own, *claimed], free)
        if any(clash(port, other) for other in claimed):
            raise InvalidArgument(f"port {port.host_port} is given twice")
        if any(clash(port, other) for other in others) or (port not in own and not free(port)):
            raise FailedPrecondition(f"port {port.host_port}/{port.protocol} is in use")
        claimed.append(port)
    return tuple(claimed)


def choose(port: PortMapping, taken: Sequence[PortMapping], free: Free) -> PortMapping:
    for number in range(30_000, 60_000):
        tried = port._replace(host_port=number)
        if not any(clash(tried, other) for other in taken) and free(tried):
            return tried
    raise FailedPrecondition("no port is free")


def clash(one: PortMapping, other: PortMapping) -> bool:
    same_place = one.host_address == other.host_address or not one.host_address or not other.host_address
    apart = one.host_port + one.size <= other.host_port or other.host_port + other.size <= one.host_port
    return one.protocol == other.protocol and same_place and not apart


def is_free(port: PortMapping) -> bool:
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    for number in range(port.host_port, port.host_port + port.size):
        family = socket.AF_INET6 if ":" in port.host_address or not port.host_address else socket.AF_INET
        try:
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((port.host_address, number))
        except OSError:
            return False
    return True


def rules_of(addresses: Sequence[str]) -> list[str]:
    bare = [address.partition("/")[0] for address in addresses]
    lines = nft("list", "ruleset").splitlines()
    return [line.strip() for line in lines if any(one in line for one in bare)]


def nft(*arguments: str, rules: str = "") -> str:
    command = ["nft", *(arguments or ["-f", "-"])]
    done = subprocess.run(command, input=rules, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DriverError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
