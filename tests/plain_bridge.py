"""A network driver in the plainest way there is: a bridge by ``ip``, rules by ``nft``, leases in one file under a lock.

It does all that a driver can be asked for, correctly and slowly, so that tests can break it in one place.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plain_rules import claim_ports, is_free, reload_rules, rules_of, set_rules
from plugrun.api import (
    Attachment,
    Drift,
    DriverError,
    FailedPrecondition,
    Hop,
    InvalidArgument,
    NamespacePlan,
    NetResult,
    Network,
    NetworkDraft,
    New,
    PacketPath,
    PortMapping,
    Subnet,
)

Lease = dict[str, Any]
Leases = dict[str, Lease]


class PlainBridge:
    """Endpoints are named after their containers; a lease is written before anything is made for it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def namespace(self, target: str | None) -> NamespacePlan:
        if target is not None:
            raise InvalidArgument(f"the plain bridge takes no target, got {target!r}")
        return New()

    # --- Networks -------------------------------------------------------------------------------------------------

    def make_network(self, draft: NetworkDraft, others: Sequence[Network]) -> Network:
        taken = [ipaddress.ip_network(subnet.subnet) for other in others for subnet in other.subnets]
        taken += host_routes()
        subnets = draft.subnets or tuple(self.choose(taken, ipv6=draft.ipv6))
        settled = tuple(settle(subnet, taken) for subnet in subnets)
        ipv6 = draft.ipv6 or any(":" in one.subnet for one in settled)
        return Network(draft.id, draft.name, "plain", settled, ipv6, draft.internal, interface=f"pb{draft.id[-8:]}")

    def choose(self, taken: list[Any], *, ipv6: bool) -> Iterator[Subnet]:
        for pool, prefix in [("10.77.0.0/16", 24)] + [("fd77::/48", 64)] * ipv6:
            for subnet in ipaddress.ip_network(pool).subnets(new_prefix=prefix):
                if not any(overlap(subnet, other) for other in taken):
                    yield Subnet(str(subnet))
                    break
            else:
                raise FailedPrecondition(f"no subnet of {pool} is free")

    def remove_network(self, network: Network) -> None:
        with self.leases():
            delete(network.interface)

    # --- Endpoints ------------------------------------------------------------------------------------------------

    def setup(self, at: Attachment) -> NetResult:
        assert at.network is not None
        with self.leases() as leases:
            lease = self.lease(at, leases)
            leases[endpoint(at)] = lease
            self.save(leases)
            lease["ports"] = [list(port) for port in claim_ports(at.ports, endpoint(at), leases, self.free)]
            self.make_bridge(at.network)
            self.connect(at, lease)
            self.save(leases)
            set_rules(leases)
        return NetResult(
            tuple(lease["addresses"]),
            {"lease": endpoint(at)},
            ports=tuple(PortMapping(*port) for port in lease["ports"]),
            interface=f"eth{at.number}",
            mac=lease["mac"],
            gateways=tuple(lease["gateways"]),
        )

    def lease(self, at: Attachment, leases: Leases) -> Lease:
        assert at.network is not None
        used = {one.partition("/")[0] for lease in leases.values() for one in lease["addresses"]}
        addresses, gateways = [], []
        for subnet in at.network.subnets:
            space = ipaddress.ip_network(subnet.subnet)
            addresses.append(f"{self.pick(at, subnet, used)}/{space.prefixlen}")
            gateways.append(str(subnet.gateway))
        mac = at.mac or "02:42:" + ipaddress.ip_interface(addresses[0]).ip.packed[-4:].hex(":")
        network = at.network
        bridge: Lease = {"bridge": network.interface, "subnets": [one.subnet for one in network.subnets], "mac": mac}
        bridge["veth"] = veth(at)
        return {**bridge, "addresses": addresses, "gateways": gateways, "internal": network.internal, "ports": []}

    def pick(self, at: Attachment, subnet: Subnet, used: set[str]) -> str:
        space = ipaddress.ip_network(subnet.subnet)
        wish = at.ip if space.version == 4 else at.ip6
        pool = ipaddress.ip_network(subnet.ip_range or subnet.subnet)
        free = (str(one) for one in pool if usable(one, space, subnet) and str(one) not in used)
        if wish is None:
            with contextlib.suppress(StopIteration):
                return next(free)
            raise FailedPrecondition(f"no address of {subnet.subnet} is free")
        if not usable(ipaddress.ip_address(wish), space, subnet):
            raise InvalidArgument(f"the address {wish} is no container's in {subnet.subnet}")
        if wish in used:
            raise FailedPrecondition(f"the address {wish} is in use")
        return wish

    def make_bridge(self, network: Network) -> None:
        commands = []
        if network.interface not in devices():
            commands.append(f"link add {network.interface} type bridge")
        for subnet in network.subnets:
            prefix = subnet.subnet.partition("/")[2]
            commands.append(f"addr replace {subnet.gateway}/{prefix} dev {network.interface}{nodad(subnet.subnet)}")
        ip_batch([*commands, f"link set {network.interface} up"])
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", path).write_text("1")

    def connect(self, at: Attachment, lease: Lease) -> None:
        inner = f"eth{at.number}"
        delete(veth(at))  # its container may have left a moment ago, and the kernel not be done with it
        pair = f"link add {veth(at)} type veth peer name {inner} address {lease['mac']} netns {at.netns}"
        ip_batch([pair, f"link set {veth(at)} master {lease['bridge']} up"])
        if lease["internal"]:
            lease["gateways"] = []
        commands = [f"addr add {address} dev {inner}{nodad(address)}" for address in lease["addresses"]]
        commands.append(f"link set {inner} up")
        commands += [f"route add default via {one} metric {100 + at.number}" for one in lease["gateways"]]
        ip_batch(commands, enter=[f"--net={at.netns}"])

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        with self.leases() as leases:
            if not (at.leaving and at.netns):
                delete(veth(at))
            leases.pop(endpoint(at), None)
            set_rules(leases)
            self.save(leases)

    def check(self, at: Attachment, prev: NetResult) -> None:
        try:
            (link,) = json.loads(enter(at, "ip", "-json", "addr", "show", "dev", prev.interface))
        except DriverError:
            raise Drift(prev.interface, "none") from None
        found = {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]}
        for address in prev.addresses:
            if address not in found:
                raise Drift(address, ", ".join(sorted(found)))

    def gc(self, valid: frozenset[str]) -> None:
        with self.leases() as leases:
            for name in [name for name in leases if name.partition("/")[0] not in valid]:
                del leases[name]
            wanted = {lease["veth"] for lease in leases.values()}
            for device in devices():
                if (device.startswith("pv") and device not in wanted) or (device.startswith("pb") and not valid):
                    delete(device)
            set_rules(leases)
            self.save(leases)

    def close(self) -> None:
        pass

    # --- Ports, rules, paths --------------------------------------------------------------------------------------

    def publish(self, at: Attachment, prev: NetResult) -> NetResult:
        with self.leases() as leases:
            ports = claim_ports(at.ports, endpoint(at), leases, self.free)
            leases[endpoint(at)]["ports"] = [list(port) for port in ports]
            set_rules(leases)
            self.save(leases)
        return prev._replace(ports=ports)

    def reload(self, *, force: bool = False) -> bool:
        with self.leases() as leases:
            return reload_rules(leases, force=force)

    def explain(self, at: Attachment, prev: NetResult) -> Sequence[PacketPath]:
        try:
            inside = enter(at, "ip", "-brief", "addr", "show", "dev", prev.interface).strip()
        except DriverError:
            inside = f"there is no {prev.interface}"
        hops = [Hop(prev.interface, inside)]
        hops += [Hop("nft", rule) for rule in rules_of(prev.addresses)]
        return [PacketPath("from the container outwards", tuple(hops))]

    def free(self, port: PortMapping) -> bool:
        return is_free(port)

    # --- The file of leases ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def leases(self) -> Iterator[Leases]:
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            path = self.state / "leases"
            yield json.loads(path.read_text()) if path.exists() else {}
        finally:
            os.close(descriptor)

    def save(self, leases: Leases) -> None:
        (self.state / "leases.new").write_text(json.dumps(leases))
        (self.state / "leases.new").rename(self.state / "leases")


def endpoint(at: Attachment) -> str:
    return f"{at.container_id}/{at.number}"


def veth(at: Attachment) -> str:
    return f"pv{at.container_id[-8:]}{at.number}"


def nodad(address: str) -> str:
    return " nodad" if ":" in address else ""


def settle(subnet: Subnet, taken: list[Any]) -> Subnet:
    try:
        space = ipaddress.ip_network(subnet.subnet)
        gateway = ipaddress.ip_address(subnet.gateway or next(iter(space.hosts())))
    except (ValueError, StopIteration) as error:
        raise InvalidArgument(f"{subnet.subnet!r} with gateway {subnet.gateway!r} is no subnet: {error}") from None
    if gateway not in space:
        raise InvalidArgument(f"the gateway {str(gateway)!r} is not in {subnet.subnet!r}")
    for other in taken:
        if overlap(space, other):
            raise FailedPrecondition(f"the subnet {subnet.subnet!r} overlaps {str(other)!r}")
    return subnet._replace(gateway=str(gateway))


def usable(address: Any, space: Any, subnet: Subnet) -> bool:
    ends = {space.network_address, space.broadcast_address}
    return address in space and address not in ends and str(address) != subnet.gateway


def overlap(one: Any, other: Any) -> bool:
    return bool(one.version == other.version and one.overlaps(other))


def host_routes() -> list[Any]:
    routes = json.loads(ip("-4", "-json", "route")) + json.loads(ip("-6", "-json", "route"))
    return [ipaddress.ip_network(route["dst"]) for route in routes if route["dst"] != "default"]


def devices() -> set[str]:
    return {line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}


def delete(device: str) -> None:
    if device in devices():
        try:
            ip("link", "del", device)
        except DriverError:
            if device in devices():  # the kernel may have been faster: a pair ends with the container's namespace
                raise


def ip(*arguments: str) -> str:
    return run("ip", *arguments)


def ip_batch(commands: list[str], *, enter: Sequence[str] = ()) -> None:
    run(*(["nsenter", *enter] if enter else []), "ip", "-batch", "-", text="\n".join(commands))


def enter(at: Attachment, *command: str) -> str:
    if at.netns is None:
        raise DriverError("no namespace to enter")
    return run("nsenter", f"--net={at.netns}", *command)


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DriverError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
