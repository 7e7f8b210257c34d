"""A network driver with networks and ports, as a plugin in a site directory: real records and namespaces, no packets.

Each container gets an interface ``eth<number>`` of type veth whose other end lies beside it, so that there is something
to check; what is published is written into a file, which others can delete as they can a table of rules.
"""

from __future__ import annotations

from pathlib import Path

import sites

SOURCE = """
import ipaddress, json, os, subprocess
from pathlib import Path
from plugrun.api import (
    Drift, FailedPrecondition, Hop, InvalidArgument, NetResult, Network, New, PacketPath, Subnet,
)

class Lab:
    def __init__(self, state):
        self.rules, self.counter = Path(state, "rules"), Path(state, "counter")
        self.chosen = int(self.counter.read_text()) if self.counter.exists() else 0

    def namespace(self, target):
        return New()

    def make_network(self, draft, others):
        if set(draft.options) - {"colour"}:
            raise InvalidArgument(f"network driver 'lab' has no such option: {', '.join(draft.options)}")
        subnets = draft.subnets or (Subnet(f"10.{100 + len(others)}.0.0/24"),)
        if draft.ipv6 and not any(":" in one.subnet for one in subnets):
            subnets += (Subnet(f"fd00:{100 + len(others)}::/64"),)
        taken = [ipaddress.ip_network(one.subnet) for other in others for one in other.subnets]
        done = []
        for one in subnets:
            whole = ipaddress.ip_network(one.subnet)
            for other in taken:
                if other.version == whole.version and other.overlaps(whole):
                    raise FailedPrecondition(f"subnet {whole} overlaps {other}", hint="choose another one")
            done.append(one._replace(gateway=one.gateway or str(whole[1])))
        return Network(draft.id, draft.name, "lab", tuple(done), draft.ipv6, draft.internal,
                       interface=f"lab{len(others)}", options=draft.options)

    def remove_network(self, network):
        pass

    def setup(self, at):
        name = f"eth{at.number}"
        self.enter(at, "ip", "link", "add", name, "type", "veth", "peer", "name", f"peer{at.number}")
        addresses = []
        for one in at.network.subnets:
            whole = ipaddress.ip_network(one.subnet)
            own = (at.ip if whole.version == 4 else at.ip6) or str(whole[5])
            addresses.append(f"{own}/{whole.prefixlen}")
            self.enter(at, "ip", "addr", "add", addresses[-1], "dev", name)
        if at.mac:
            self.enter(at, "ip", "link", "set", name, "address", at.mac)
        mac = json.loads(self.enter(at, "ip", "-json", "link", "show", "dev", name))[0]["address"]
        gateways = tuple(one.gateway for one in at.network.subnets)
        result = NetResult(tuple(addresses), interface=name, mac=mac, gateways=gateways)
        return self.publish(at, result)

    def publish(self, at, prev):
        taken = {}
        for container, ports in self.read().items():
            taken |= {tuple(port): container for port in ports if container != at.container_id}
        settled = []
        for port in at.ports:
            if not port.host_port:
                self.chosen += 1
                self.counter.write_text(str(self.chosen))
                port = port._replace(host_port=40_000 + self.chosen)
            if any(other[1:4] == tuple(port)[1:4] for other in taken):
                raise FailedPrecondition(f"port {port.host_port} is in use", hint="choose another one")
            settled.append(port)
        self.write({**self.read(), at.container_id: [list(port) for port in settled]})
        return prev._replace(ports=tuple(settled))

    def teardown(self, at, prev):
        rules = self.read()
        rules.pop(at.container_id, None)
        self.write(rules)
        if at.netns and not at.leaving:
            subprocess.run(["nsenter", f"--net={at.netns}", "ip", "link", "del", f"eth{at.number}"], check=False,
                           capture_output=True)

    def check(self, at, prev):
        try:
            link = json.loads(self.enter(at, "ip", "-json", "addr", "show", "dev", prev.interface))[0]
        except subprocess.CalledProcessError:
            raise Drift(f"interface {prev.interface}", "none") from None
        found = {f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]}
        if not set(prev.addresses) <= found:
            raise Drift(", ".join(prev.addresses), ", ".join(sorted(found)) or "no address")

    def gc(self, valid):
        pass

    def close(self):
        pass

    def reload(self, *, force=False):
        missing = not self.rules.exists()
        if missing:
            self.write({})
        return missing

    def explain(self, at, prev):
        return [PacketPath("out of the container", (Hop(prev.interface, "leaves from " + prev.addresses[0]),
                Hop(at.network.interface + "\\x1b[2J", "is routed"))) ]

    def enter(self, at, *command):
        whole = ["nsenter", f"--net={at.netns}", *command]
        return subprocess.run(whole, check=True, capture_output=True, text=True).stdout

    def read(self):
        return json.loads(self.rules.read_text()) if self.rules.exists() else {}

    def write(self, rules):
        self.rules.write_text(json.dumps(rules))

@hookimpl
def plugrun_network_drivers():
    return [DriverSpec("lab", lambda state, options: Lab(state), lambda state: None, priority=200)]
"""


def install(site: Path) -> dict[str, str]:
    """Install the driver ``lab``, the default one from then on; return the environment in which it is found."""
    site.mkdir(mode=0o755)
    sites.install(site, "acme-lab", {"lab": "acme_lab"}, SOURCE, group="plugrun")
    return {"PYTHONPATH": str(site)}
