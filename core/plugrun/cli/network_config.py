"""What ``plugrun network create`` says of a network's addresses: subnets, and which gateway and range is in which."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun.api import Subnet
from plugrun.cli.addresses import address
from plugrun.errors import InvalidArgument

if TYPE_CHECKING:
    from plugrun.api import Network

    _Range = ipaddress.IPv4Network | ipaddress.IPv6Network


def subnets(texts: Sequence[str], gateways: Sequence[str], ranges: Sequence[str]) -> tuple[Subnet, ...]:
    """Read ``--subnet``, ``--gateway`` and ``--ip-range``; each gateway and range goes to the subnet that it is in.

    :raises InvalidArgument: one makes no sense, is in no subnet, or is one too many for its subnet.
    """
    found = {_subnet(text): Subnet("") for text in texts}
    if len(found) < len(texts):
        raise InvalidArgument(f"--subnet {_first_twice(texts)!r} is given twice", hint="leave one of them out")
    for text in gateways:
        host = ipaddress.ip_network(address(text, "--gateway"))
        whole = _around(found, host, f"--gateway {text!r}")
        if found[whole].gateway is not None:
            raise InvalidArgument(f"subnet {whole} has two gateways", hint="leave one of them out")
        found[whole] = found[whole]._replace(gateway=str(host.network_address))
    for text in ranges:
        part = _subnet(text, "--ip-range")
        whole = _around(found, part, f"--ip-range {text!r}")
        if found[whole].ip_range is not None:
            raise InvalidArgument(f"subnet {whole} has two ranges", hint="leave one of them out")
        found[whole] = found[whole]._replace(ip_range=str(part))
    return tuple(one._replace(subnet=str(whole)) for whole, one in found.items())


def has_ipv6(found: Sequence[Subnet]) -> bool:
    """Whether one of them is of IPv6: nobody gives one and wants none."""
    return any(":" in one.subnet for one in found)


def shown(network: Network) -> Iterator[dict[str, str]]:
    """Yield the subnets of a network as Docker's ``IPAM.Config`` has them."""
    for one in network.subnets:
        values = {"Subnet": one.subnet, "IPRange": one.ip_range, "Gateway": one.gateway}
        yield {name: value for name, value in values.items() if value}


def _subnet(text: str, option: str = "--subnet") -> _Range:
    plain = text.replace("%", " ")  # a subnet has no zone, of which any text would be accepted
    try:
        return ipaddress.ip_network(plain)
    except ValueError:
        pass
    try:
        close = ipaddress.ip_network(plain, strict=False)
    except ValueError:
        raise InvalidArgument(
            f"{option} {text!r} is no subnet", hint="write e.g. 10.64.0.0/24 or fd00:64::/64"
        ) from None
    raise InvalidArgument(f"{option} {text!r} is an address and not a subnet", hint=f"did you mean {close}?")


def _around(subnets: dict[_Range, Subnet], part: _Range, about: str) -> _Range:
    if not subnets:
        raise InvalidArgument(f"{about} needs the subnet it is in", hint="add e.g. --subnet 10.64.0.0/24")
    for whole in subnets:
        if whole.version == part.version and whole.supernet_of(part):  # type: ignore[arg-type]
            return whole
    raise InvalidArgument(f"{about} is in no subnet of {', '.join(map(str, subnets))}")


def _first_twice(texts: Sequence[str]) -> str:
    return next(text for number, text in enumerate(texts) if _subnet(text) in map(_subnet, texts[:number]))
