"""``plugrun network connect`` and ``disconnect``: a container's networks change."""

from __future__ import annotations

from typing import Annotated

from plugrun.cli import parse
from plugrun.cli.addresses import address, alias, mac
from plugrun.cli.context import Globals, engine
from plugrun.cli.params import argument, option
from plugrun.request import NetworkChoice

_Network = Annotated[str, argument("NETWORK")]
_Container = Annotated[str, argument("CONTAINER")]


def connect(
    common: Globals,
    network: _Network,
    container: _Container,
    ip: Annotated[str | None, option(help="IPv4 address.", metavar="ADDRESS")] = None,
    ip6: Annotated[str | None, option(help="IPv6 address.", metavar="ADDRESS")] = None,
    mac_address: Annotated[str | None, option(help="Hardware address.", metavar="ADDRESS")] = None,
    alias_: Annotated[list[str] | None, option("--alias", help="One more name on the network.", metavar="NAME")] = None,
) -> None:
    """Put a container on one more network; at once if it runs."""
    from plugrun.lifecycle import connect as changes

    parse.check_text([network, container])
    choice = NetworkChoice(
        network,
        None if ip is None else address(ip, "--ip", 4),
        None if ip6 is None else address(ip6, "--ip6", 6),
        None if mac_address is None else mac(mac_address, "--mac-address"),
        tuple(alias(one, "--alias") for one in alias_ or ()),
    )
    with engine(common) as opened:
        changes.connect(opened, opened.containers.find(container), choice)


def disconnect(
    common: Globals,
    network: _Network,
    container: _Container,
    force: Annotated[bool, option("--force", "-f", help="Do not mind if it is not on it.")] = False,
) -> None:
    """Take a container off a network; at once if it runs. Its ports move to another of its networks."""
    from plugrun.lifecycle import connect as changes

    with engine(common) as opened:
        changes.disconnect(opened, opened.containers.find(container), network, force=force)
