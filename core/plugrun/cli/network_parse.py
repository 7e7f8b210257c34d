"""What the options of ``run`` and ``create`` about networks mean.

Sources: https://docs.docker.com/reference/cli/docker/container/run/, docker/cli ``opts/network.go``, podman-run(1).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from plugrun.cli import port_option
from plugrun.cli.addresses import address, alias, mac
from plugrun.errors import InvalidArgument
from plugrun.request import NetworkChoice

if TYPE_CHECKING:
    from plugrun.cli.network_options import NetworkOptions
    from plugrun.request import ContainerRequest

_KEYS = {"name": "name", "ip": "ip", "ip6": "ip6", "mac-address": "mac", "mac": "mac", "alias": "alias"}
_OPTIONS = {"ip": "--ip", "ip6": "--ip6", "mac": "--mac-address"}
_DOMAIN = r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+"
_RESOLVER_OPTION = r"[a-z0-9-]+(?::\d+)?"  # resolv.conf(5)


def add(request: ContainerRequest, options: NetworkOptions) -> ContainerRequest:
    """Return the request with what the options say, its networks still as typed.

    :raises InvalidArgument: one makes no sense; quotes it.
    """
    choices = [network(choice.value or "") for choice in request.networks]
    own = NetworkChoice(
        None,
        None if options.ip is None else address(options.ip, "--ip", 4),
        None if options.ip6 is None else address(options.ip6, "--ip6", 6),
        None if options.mac_address is None else mac(options.mac_address, "--mac-address"),
        tuple(alias(one, "--network-alias") for one in options.network_alias or ()),
    )
    return request._replace(
        networks=_together(choices, own),
        ports=port_option.publish(options.publish or ()),
        publish_all=options.publish_all,
        exposed=[port_option.expose(one) for one in options.expose or ()],
        dns=[address(one, "--dns") for one in options.dns or ()],
        dns_search=[_search(one) for one in options.dns_search or ()],
        dns_options=[_resolver_option(one) for one in options.dns_option or ()],
        extra_hosts=[extra_host(one) for one in options.add_host or ()],
    )


def network(text: str) -> NetworkChoice:
    """Read one ``--net``: Docker's ``name=front,ip=10.0.0.5``, podman's ``front:ip=10.0.0.5``, or any other value.

    :raises InvalidArgument: a key is unknown, is there twice, or its value makes no sense.
    """
    first, equals, _ = text.partition("=")
    before, colon, key = first.rpartition(":")
    if not equals or (colon and key not in _KEYS) or not re.fullmatch(r"[A-Za-z0-9_.-]*", before or key):
        return NetworkChoice(text)  # a network, a driver, or what a plugin makes of it
    values: dict[str, str] = {"name": before} if colon else {}
    aliases = []
    for item in text[len(before) + 1 if colon else 0 :].split(","):
        key, value = _item(text, item)
        if key == "alias":
            aliases.append(alias(value, f"--net {text!r}: alias"))
            continue
        if key == "ip" and ":" in value:  # podman has one key for both
            key = "ip6"
        if key in values:
            raise InvalidArgument(f"--net {text!r} has two values of {key}", hint="leave one of them out")
        values[key] = value
    if not values.get("name"):
        raise InvalidArgument(f"--net {text!r} names no network", hint="write name=NETWORK,ip=ADDRESS")
    ip, ip6, hardware = values.get("ip"), values.get("ip6"), values.get("mac")
    return NetworkChoice(
        values["name"],
        None if ip is None else address(ip, f"--net {text!r}: ip", 4),
        None if ip6 is None else address(ip6, f"--net {text!r}: ip6", 6),
        None if hardware is None else mac(hardware, f"--net {text!r}: mac-address"),
        tuple(aliases),
    )


def _item(text: str, item: str) -> tuple[str, str]:
    key, equals, value = item.partition("=")
    if key in _KEYS and value:
        return _KEYS[key], value
    if key in _KEYS:
        raise InvalidArgument(f"--net {text!r} has {key!r} without a value", hint=f"write {key}=VALUE")
    close = difflib.get_close_matches(key, _KEYS, n=1)
    raise InvalidArgument(
        f"--net {text!r} has the unknown key {key!r}" if equals else f"--net {text!r}: {item!r} is not KEY=VALUE",
        hint=f"did you mean {close[0]}?" if close else "use name, ip, ip6, mac-address, alias",
    )


def _together(choices: Sequence[NetworkChoice], own: NetworkChoice) -> Sequence[NetworkChoice]:
    """Give the only network what ``--ip`` and its like say. With several, as in podman, each has to say it itself."""
    if own == NetworkChoice():
        return choices
    given = [option for field, option in _OPTIONS.items() if getattr(own, field) is not None]
    given += ["--network-alias"] * bool(own.aliases)
    if len(choices) > 1:
        raise InvalidArgument(
            f"{given[0]} does not say which of the {len(choices)} networks it is for",
            hint=f"write it in each: --net name={choices[0].value},ip=ADDRESS,mac-address=ADDRESS,alias=NAME",
        )
    only = choices[0] if choices else NetworkChoice()
    for field, option in _OPTIONS.items():
        if getattr(own, field) is not None and getattr(only, field) is not None:
            raise InvalidArgument(f"{option} is in --net too", hint="leave one of them out")
    aliases = tuple(dict.fromkeys((*only.aliases, *own.aliases)))
    return [NetworkChoice(only.value, own.ip or only.ip, own.ip6 or only.ip6, own.mac or only.mac, aliases)]


def extra_host(text: str) -> tuple[str, str]:
    """Read ``--add-host NAME:ADDRESS``, or ``NAME=ADDRESS``; an IPv6 address may be in brackets.

    :return: the name, and an address or ``host-gateway``.
    :raises InvalidArgument: it is neither.
    """
    name, found, value = text.partition("=" if "=" in text else ":")
    if not found or not name or not value:
        raise InvalidArgument(f"--add-host {text!r} is not NAME:ADDRESS", hint="write e.g. db:10.0.0.5")
    alias(name, f"--add-host {text!r}: the name")
    return name, value if value == "host-gateway" else address(value, f"--add-host {text!r}: the address")


def _search(text: str) -> str:
    if text != "." and not (len(text) <= 253 and re.fullmatch(_DOMAIN, text, re.ASCII)):
        raise InvalidArgument(f"--dns-search {text!r} is no domain", hint="write e.g. example.com, or '.' for none")
    return text


def _resolver_option(text: str) -> str:
    if not re.fullmatch(_RESOLVER_OPTION, text, re.ASCII):
        raise InvalidArgument(f"--dns-option {text!r} is none", hint="see resolv.conf(5); write e.g. ndots:2")
    return text
