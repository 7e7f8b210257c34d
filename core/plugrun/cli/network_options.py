"""The options of ``run`` and ``create`` that are about networks, ports and names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from plugrun.cli import parse
from plugrun.cli.params import option
from plugrun.request import NetworkChoice
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.cli.context import Globals
    from plugrun.request import ContainerRequest

NETWORK = "Network"


class NetworkOptions(NamedTuple):
    """One field an option, in the order of the help; the names and meanings are Docker's."""

    net: Annotated[
        list[str] | None,
        option(
            "--net", "--network", help="Network, and with name=NETWORK,ip=… more.", metavar="NETWORK", panel=NETWORK
        ),
    ] = None
    net_opt: Annotated[
        list[str] | None, option("--net-opt", help="Option of the network driver.", metavar="KEY=VALUE", panel=NETWORK)
    ] = None
    ip: Annotated[str | None, option("--ip", help="IPv4 address.", metavar="ADDRESS", panel=NETWORK)] = None
    ip6: Annotated[str | None, option("--ip6", help="IPv6 address.", metavar="ADDRESS", panel=NETWORK)] = None
    mac_address: Annotated[
        str | None, option("--mac-address", help="Hardware address.", metavar="ADDRESS", panel=NETWORK)
    ] = None
    network_alias: Annotated[
        list[str] | None, option("--network-alias", help="One more name on the network.", metavar="NAME", panel=NETWORK)
    ] = None
    publish: Annotated[
        list[str] | None,
        option("--publish", "-p", help="Publish ports.", metavar="[[ADDR:]HOST:]PORT[/PROTO]", panel=NETWORK),
    ] = None
    publish_all: Annotated[
        bool, option("--publish-all", "-P", help="Publish what is exposed, at free ports.", panel=NETWORK)
    ] = False
    expose: Annotated[
        list[str] | None, option("--expose", help="Say that it listens there.", metavar="PORT[/PROTO]", panel=NETWORK)
    ] = None
    dns: Annotated[list[str] | None, option("--dns", help="Name server.", metavar="ADDRESS", panel=NETWORK)] = None
    dns_search: Annotated[
        list[str] | None,
        option("--dns-search", help="Domain to search; '.' for none.", metavar="DOMAIN", panel=NETWORK),
    ] = None
    dns_option: Annotated[
        list[str] | None,
        option("--dns-option", "--dns-opt", help="Resolver option.", metavar="OPTION", panel=NETWORK),
    ] = None
    add_host: Annotated[
        list[str] | None,
        option("--add-host", help="Name for /etc/hosts.", metavar="NAME:ADDRESS|host-gateway", panel=NETWORK),
    ] = None

    def add(self, request: ContainerRequest, common: Globals) -> ContainerRequest:
        """Return the request with what these options say.

        :raises InvalidArgument: one makes no sense; quotes it.
        """
        for value in self:
            parse.check_text(value)
        values = [value for value in self.net or (common.net,) if value]
        request = request._replace(
            networks=[NetworkChoice(value) for value in values],
            network_options=parse.driver_options(self.net_opt or [], "--net-opt"),
        )
        if not any(self[2:]) and not any("=" in value for value in values):
            return request
        from plugrun.cli import network_parse

        return network_parse.add(request, self)
