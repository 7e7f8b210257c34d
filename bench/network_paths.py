"""TCP throughput and latency on the ways that packets take, each round beside plain veth pairs.

The programs are the host's iperf3 and sockperf, in the network namespaces of the containers: packets take the same way
as those of programs inside, and no image is needed. Client and server are kept on a CPU each where there are two.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import page
from engines import Engine, output

SECONDS = os.environ.get("PATH_SECONDS", "1")
STREAM, PING = "5201", "5202"  # ports of iperf3 and sockperf
PLAIN, ROUTED = "plain veth pair", "LAN to routed veth pair"  # what the others are compared with
HOST_ON_LAN = "192.0.2.1"
PINNED = (os.cpu_count() or 1) > 1


@dataclass(frozen=True)
class Way:
    """From a client to a server; where each of them is, as a path of a network namespace.

    :param client: ``""`` for the host.
    """

    name: str
    client: str
    address: str


def measure(engine: Engine, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each way; Gbit/s and microseconds there and back, and ratios to the plain ways."""
    with contextlib.ExitStack() as stack:
        ways = [*plain_ways(stack), *container_ways(stack, engine)]
        rates: dict[str, list[float]] = {way.name: [] for way in ways}
        delays: dict[str, list[float]] = {way.name: [] for way in ways}
        for number in range(rounds + 1):
            for offset in range(len(ways)):
                way = ways[(number + offset) % len(ways)]
                page.progress(f"packets of {engine.name}, round {number} of {rounds}, {way.name}")
                rate, delay = throughput(way), latency(way)
                if number > 0:
                    rates[way.name].append(rate)
                    delays[way.name].append(delay)
    return [_row(engine, way.name, rates, delays) for way in ways]


def _row(engine: Engine, way: str, rates: dict[str, list[float]], delays: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {"engine": engine.title, "way": way}
    for name, values in (("rate", rates), ("delay", delays)):
        row[name] = statistics.median(values[way])
        for beside, plain in ((PLAIN, "plain"), (ROUTED, "routed")):
            pairs = zip(values[way], values[beside], strict=True)
            row[f"{name}_of_{plain}"] = statistics.median(mine / other for mine, other in pairs)
    return row


# --- The ways ------------------------------------------------------------------------------------------------


def be_a_router() -> None:
    """Have the host forward packets: engines that find it not to drop what is not theirs, the plain ways' too."""
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def plain_ways(stack: contextlib.ExitStack) -> list[Way]:
    """Make two namespaces with a veth pair between them, and two with the host as their router."""
    one, other, lan, inside = (stack.enter_context(namespace(name)) for name in ("one", "other", "lan", "inside"))
    veth(one, "198.51.100.1/30", other, "198.51.100.2/30")
    veth("", f"{HOST_ON_LAN}/24", lan, "192.0.2.2/24")
    veth("", "198.51.100.5/30", inside, "198.51.100.6/30")
    for place, router in ((lan, HOST_ON_LAN), (inside, "198.51.100.5")):
        output([*within(place), "ip", "route", "add", "default", "via", router])
    for place in (other, inside):
        servers(stack, place)
    return [Way(PLAIN, one, "198.51.100.2"), Way(ROUTED, lan, "198.51.100.6")]


def container_ways(stack: contextlib.ExitStack, engine: Engine) -> list[Way]:
    """Start a container that listens on published ports, and one beside it."""
    stack.callback(engine.remove_all)
    published = ("-p", f"{STREAM}:{STREAM}", "-p", f"{PING}:{PING}")
    server, client = (network_of(engine, options) for options in (published, ()))
    servers(stack, server)
    return [
        Way("container to container", client, address_in(server)),
        Way("host to published port", "", HOST_ON_LAN),
        Way("127.0.0.1 to published port", "", "127.0.0.1"),
        Way("LAN to published port", "/run/netns/lan", HOST_ON_LAN),
    ]


@contextlib.contextmanager
def namespace(name: str) -> Iterator[str]:
    output(["ip", "netns", "add", name])
    try:
        output(["ip", "-n", name, "link", "set", "lo", "up"])
        yield f"/run/netns/{name}"
    finally:
        output(["ip", "netns", "del", name])


def veth(one: str, address: str, other: str, peer: str) -> None:
    """Connect two namespaces; the host is ``""``."""
    left, right = (f"b{int(ipaddress.ip_interface(each).ip):x}" for each in (address, peer))
    output(["ip", "link", "add", left, "type", "veth", "peer", "name", right])
    for place, name, own in ((one, left, address), (other, right, peer)):
        if place:
            output(["ip", "link", "set", name, "netns", place.rpartition("/")[2]])
        output([*within(place), "ip", "address", "add", own, "dev", name])
        output([*within(place), "ip", "link", "set", name, "up"])


def network_of(engine: Engine, options: tuple[str, ...]) -> str:
    container = output(engine.run_sleeper(*options)).strip()
    (state,) = json.loads(output([*engine.argv, "inspect", container]))
    return f"/proc/{state['State']['Pid']}/ns/net"


def address_in(network: str) -> str:
    (interface,) = json.loads(output([*within(network), "ip", "-4", "-j", "address", "show", "dev", "eth0"]))
    return str(interface["addr_info"][0]["local"])


def within(network: str) -> list[str]:
    return ["nsenter", f"--net={network}"] if network else []


# --- The programs --------------------------------------------------------------------------------------------


def servers(stack: contextlib.ExitStack, network: str) -> None:
    for command in (["iperf3", "-s", "-p", STREAM], [*on_cpu(1), "sockperf", "server", "--tcp", "-p", PING]):
        server = subprocess.Popen(
            [*within(network), *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(server.wait)
        stack.callback(server.kill)
    deadline = time.monotonic() + 10
    for port in (STREAM, PING):
        while not output([*within(network), "ss", "-Htln", f"sport = :{port}"]):
            if time.monotonic() > deadline:
                sys.exit(f"bench: nothing listens on port {port} in {network}")
            time.sleep(0.02)


def throughput(way: Way) -> float:
    """Return Gbit/s, as the server received them."""
    pinned = ["-A", "0,1"] if PINNED else []
    command = ["iperf3", "-c", way.address, "-p", STREAM, "-t", SECONDS, "-J", *pinned]
    found = json.loads(output([*within(way.client), *command]))
    if "sum_received" not in found["end"]:
        sys.exit(f"bench: iperf3 on the way {way.name}: {found.get('error')}")
    return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9


def latency(way: Way) -> float:
    """Return the median time of a message of 64 bytes and its answer, in microseconds."""
    options = ["--tcp", "--full-rtt", "-m", "64", "-t", SECONDS]
    command = [*on_cpu(0), "sockperf", "ping-pong", "-i", way.address, "-p", PING, *options]
    found = output([*within(way.client), *command])
    median = re.search(r"percentile 50\.000 =\s*([0-9.]+)", found)
    if not median:
        sys.exit(f"bench: sockperf says no median on the way {way.name}: {found}")
    return float(median[1])


def on_cpu(number: int) -> list[str]:
    return ["taskset", "-c", str(number)] if PINNED else []
