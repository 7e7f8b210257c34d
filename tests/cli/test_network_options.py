"""The options about networks and ports as texts: what each means, and what is said of those that mean nothing."""

from __future__ import annotations

import time

import pytest

from plugrun.cli import network_parse, port_option
from plugrun.cli.context import Globals
from plugrun.cli.network_options import NetworkOptions
from plugrun.errors import InvalidArgument
from plugrun.ports import PortMapping
from plugrun.request import ContainerRequest, NetworkChoice

NETWORKS = {
    "front": NetworkChoice("front"),
    "container:web": NetworkChoice("container:web"),
    "ns:/run/netns/lab": NetworkChoice("ns:/run/netns/lab"),
    "ns:/run/netns/a=b": NetworkChoice("ns:/run/netns/a=b"),
    "vlan:parent=eth0": NetworkChoice("vlan:parent=eth0"),
    "name=front": NetworkChoice("front"),
    "name=front,ip=10.0.0.5,ip6=fd00::5,mac-address=02-00-00-00-00-0A,alias=a,alias=b": NetworkChoice(
        "front", "10.0.0.5", "fd00::5", "02:00:00:00:00:0a", ("a", "b")
    ),
    "ip=10.0.0.5,name=front": NetworkChoice("front", "10.0.0.5"),
    "front:ip=10.0.0.5,mac=02:00:00:00:00:0a,alias=a": NetworkChoice(
        "front", "10.0.0.5", None, "02:00:00:00:00:0a", ("a",)
    ),
    "front:ip=fd00:0::5,ip=10.0.0.5": NetworkChoice("front", "10.0.0.5", "fd00::5"),
    "front:alias=my_db.local": NetworkChoice("front", aliases=("my_db.local",)),
}


@pytest.mark.parametrize("text", NETWORKS)
def test_what_a_network_means(text):
    assert network_parse.network(text) == NETWORKS[text]


BAD_NETWORKS = {
    "nmae=front": ["has the unknown key 'nmae'", "did you mean name?"],
    "x=y": ["has the unknown key 'x'", "use name, ip, ip6"],
    "ip=10.0.0.5": ["names no network", "name=NETWORK"],
    ":ip=10.0.0.5": ["names no network"],
    "name=front,name=back": ["has two values of name"],
    "name=front,ip=10.0.0.5,ip=10.0.0.6": ["has two values of ip"],
    "name=": ["has 'name' without a value"],
    "name=front,ip": ["has 'ip' without a value"],
    "name=front,": ["'' is not KEY=VALUE"],
    "name=front,x": ["'x' is not KEY=VALUE"],
    "front:ip=10.0.0.5,iface=eth7": ["has the unknown key 'iface'"],
    "front:ip=10.0.0.256": ["ip '10.0.0.256' is no IPv4 address", "10.0.0.5"],
    "name=front,ip6=10.0.0.5": ["ip6 '10.0.0.5' is no IPv6 address", "fd00::5"],
    "name=front,mac-address=02:00": ["'02:00' is no hardware address", "02:00:00:00:00:05"],
    "name=front,mac-address=01:00:00:00:00:05": ["cannot be an interface's address", "even"],
    "name=front,mac-address=00:00:00:00:00:00": ["cannot be an interface's address"],
    "name=front,alias=a b": ["alias 'a b' cannot be a name"],
    "name=front,alias=-a": ["alias '-a' cannot be a name"],
    "name=front,alias=a\nb": [r"alias 'a\nb' cannot be a name"],
}


@pytest.mark.parametrize("text", BAD_NETWORKS)
def test_networks_that_mean_nothing(text):
    with pytest.raises(InvalidArgument) as refused:
        network_parse.network(text)
    said = f"{refused.value}; {refused.value.hint}"
    assert repr(text) in said
    assert all(word in said for word in BAD_NETWORKS[text]), said


PORTS = {
    "80": [PortMapping(80)],
    ":80": [PortMapping(80)],
    "0:80": [PortMapping(80)],
    "8080:80": [PortMapping(80, 8080)],
    "8080:80/UDP": [PortMapping(80, 8080, "udp")],
    "8080:80/sctp": [PortMapping(80, 8080, "sctp")],
    "127.0.0.1:8080:80": [PortMapping(80, 8080, "tcp", "127.0.0.1")],
    "127.0.0.1::80": [PortMapping(80, 0, "tcp", "127.0.0.1")],
    "0.0.0.0:8080:80": [PortMapping(80, 8080, "tcp", "0.0.0.0")],
    "[::1]:8080:80/tcp": [PortMapping(80, 8080, "tcp", "::1")],
    "[fd00:0::1]::80": [PortMapping(80, 0, "tcp", "fd00::1")],
    "[::1]:80": [PortMapping(80, 0, "tcp", "::1")],
    "8000-8009:9000-9009/udp": [PortMapping(9000, 8000, "udp", "", 10)],
    "127.0.0.1:8000-8001:80-81": [PortMapping(80, 8000, "tcp", "127.0.0.1", 2)],
    "80-82": [PortMapping(80), PortMapping(81), PortMapping(82)],
    "8080-8080:80": [PortMapping(80, 8080)],
    "1-65535:1-65535": [PortMapping(1, 1, size=65535)],
}


@pytest.mark.parametrize("text", PORTS)
def test_what_a_published_port_means(text):
    assert port_option.mappings(text) == PORTS[text]


BAD_PORTS = {
    "": ["is not [ADDRESS:][HOST:]PORT[/PROTOCOL]"],
    "8080:": ["is not [ADDRESS:]"],
    "0": ["'0' is no port", "1 to 65535"],
    "65536": ["'65536' is no port"],
    "8080:65536": ["'65536' is no port"],
    "65536:80": ["'65536' is no port"],
    "٨٠": ["is no port"],
    "web": ["'web' is no port"],
    "-80": ["'-80' is no port"],
    "80-": ["'80-' is no port"],
    "0-3:0-3": ["'0-3' is no port"],
    "90-80": ["the range 90-80 goes backwards", "write 80-90"],
    "8000-8002:80": ["has 3 ports of the host for 1 of the container", "leave the host's out"],
    "8000:80-82": ["has 1 port of the host for 3 of the container", "as many of both"],
    "80/icmp": ["unknown protocol 'icmp'", "tcp, udp or sctp"],
    "80/": ["unknown protocol ''"],
    "::1:8080:80": ["an IPv6 address needs brackets"],
    "localhost:8080:80": ["the address 'localhost' is no IPv4 address"],
    "256.0.0.1:8080:80": ["'256.0.0.1' is no IPv4 address"],
    "[::g]:8080:80": ["'::g' is no IPv6 address"],
    "[fe80::1%eth0]:8080:80": ["'fe80::1%eth0' is no IPv6 address"],
    "[127.0.0.1]:8080:80": ["'127.0.0.1' is no IPv6 address"],
    "[::1]8080:80": ["is not [ADDRESS:]"],
    "[::1]": ["is not [ADDRESS:]"],
}


@pytest.mark.parametrize("text", BAD_PORTS)
def test_published_ports_that_mean_nothing(text):
    with pytest.raises(InvalidArgument) as refused:
        port_option.mappings(text)
    said = f"{refused.value}; {refused.value.hint}"
    assert f"--publish {text!r}" in said
    assert all(word in said for word in BAD_PORTS[text]), said


CLASHES = [
    ("8080:80", "8080:81"),
    ("8080:80", "127.0.0.1:8080:81"),
    ("0.0.0.0:8080:80", "127.0.0.1:8080:81"),
    ("[::]:8080:80", "[::1]:8080:81"),
    ("8000-8009:8000-8009", "8009:80"),
    ("8000-8009:8000-8009", "8005-8015:9005-9015"),
]
TOGETHER = [
    ("8080:80", "8080:80/udp"),
    ("127.0.0.1:8080:80", "127.0.0.2:8080:80"),
    ("0.0.0.0:8080:80", "[::]:8080:80"),
    ("0.0.0.0:8080:80", "[::1]:8080:80"),
    ("8080:80", "8081:80"),
    ("8000-8009:8000-8009", "8010:80"),
    ("80", "81"),
]


@pytest.mark.parametrize("texts", CLASHES, ids=" ".join)
def test_two_that_want_one_port_of_the_host(texts):
    for order in (texts, texts[::-1]):
        with pytest.raises(InvalidArgument, match="want the same port") as refused:
            port_option.publish(order)
        assert all(repr(text) in str(refused.value) for text in texts)


@pytest.mark.parametrize("texts", TOGETHER, ids=" ".join)
def test_two_that_go_together(texts):
    assert port_option.publish(texts) == [mapping for text in texts for mapping in port_option.mappings(text)]


def test_the_same_port_twice_is_published_once():
    assert port_option.publish(["8080:80", "8080:80/tcp"]) == [PortMapping(80, 8080)]


def test_ten_thousand_ports_are_read_in_no_time():
    texts = [f"{port}:{port}" for port in range(20_000, 30_000)]
    started = time.process_time()
    assert len(port_option.publish(texts)) == 10_000
    assert len(port_option.publish(["1-65535"])) == 65_535
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("text", "value"), [("80", "80/tcp"), ("80/udp", "80/udp"), ("80-82/TCP", "80-82/tcp")])
def test_what_an_exposed_port_means(text, value):
    assert port_option.expose(text) == value


@pytest.mark.parametrize("text", ["", "0", "8080:80", "80-", "82-80", "80/x", "/tcp"])
def test_exposed_ports_that_mean_nothing(text):
    with pytest.raises(InvalidArgument, match="--expose"):
        port_option.expose(text)


HOSTS = {
    "db:10.0.0.5": ("db", "10.0.0.5"),
    "db=10.0.0.5": ("db", "10.0.0.5"),
    "db:fd00::5": ("db", "fd00::5"),
    "db=fd00:0::5": ("db", "fd00::5"),
    "db:[fd00::5]": ("db", "fd00::5"),
    "db=[fd00::5]": ("db", "fd00::5"),
    "my_db.local:host-gateway": ("my_db.local", "host-gateway"),
}


@pytest.mark.parametrize("text", HOSTS)
def test_what_an_extra_host_means(text):
    assert network_parse.extra_host(text) == HOSTS[text]


@pytest.mark.parametrize(
    "text", ["db", "db:", ":10.0.0.5", "=", "db:x", "db:[10.0.0.5]", "d b:10.0.0.5", "a\nb:10.0.0.5"]
)
def test_extra_hosts_that_mean_nothing(text):
    with pytest.raises(InvalidArgument, match="--add-host"):
        network_parse.extra_host(text)


def request(**options):
    common = options.pop("common", Globals())
    return NetworkOptions(**options).add(ContainerRequest("busybox"), common)


def test_the_short_options_are_for_the_only_network():
    made = request(net=["front"], ip="10.0.0.5", ip6="fd00::5", mac_address="02:00:00:00:00:05", network_alias=["a"])
    assert made.networks == [NetworkChoice("front", "10.0.0.5", "fd00::5", "02:00:00:00:00:05", ("a",))]
    assert request(ip="10.0.0.5").networks == [NetworkChoice(None, "10.0.0.5")]
    assert request(ip="10.0.0.5", common=Globals(net="front")).networks == [NetworkChoice("front", "10.0.0.5")]
    made = request(net=["name=front,ip6=fd00::5,alias=a"], ip="10.0.0.5", network_alias=["b", "a"])
    assert made.networks == [NetworkChoice("front", "10.0.0.5", "fd00::5", None, ("a", "b"))]


@pytest.mark.parametrize(
    "options", [{"ip": "10.0.0.5"}, {"mac_address": "02:00:00:00:00:05"}, {"network_alias": ["a"]}]
)
def test_with_several_networks_they_have_to_say_which(options):
    name = f"--{next(iter(options)).replace('_', '-')}"
    with pytest.raises(InvalidArgument, match=f"{name} does not say which of the 2 networks") as refused:
        request(net=["front", "back"], **options)
    assert "--net name=front,ip=ADDRESS" in str(refused.value.hint)


def test_an_address_twice_is_refused():
    with pytest.raises(InvalidArgument, match="--ip is in --net too"):
        request(net=["name=front,ip=10.0.0.5"], ip="10.0.0.5")


def test_networks_of_the_command_come_before_the_global_one():
    assert request(net=["front", "back"], common=Globals(net="none")).networks == [
        NetworkChoice("front"),
        NetworkChoice("back"),
    ]
    assert request(common=Globals(net="none")).networks == [NetworkChoice("none")]
    assert request(common=Globals(net="front:alias=a")).networks == [NetworkChoice("front", aliases=("a",))]
    assert request(net=[""]).networks == []


def test_names_and_ports_reach_the_request():
    made = request(
        publish=["8080:80"],
        publish_all=True,
        expose=["81"],
        dns=["10.0.0.1", "fd00::1"],
        dns_search=["example.com", "."],
        dns_option=["ndots:2", "rotate"],
        add_host=["db:10.0.0.5"],
        net_opt=["a=b"],
    )
    assert (made.ports, made.publish_all, made.exposed) == ([PortMapping(80, 8080)], True, ["81/tcp"])
    assert (made.dns, made.dns_search) == (["10.0.0.1", "fd00::1"], ["example.com", "."])
    assert (made.dns_options, made.extra_hosts) == (["ndots:2", "rotate"], [("db", "10.0.0.5")])
    assert made.network_options == {"a": "b"}
    assert made.networks == []


WRONG = {
    "ip": ["x", "fd00::5"],
    "ip6": ["10.0.0.5", "[fd00::5"],
    "mac_address": ["x", "02:00:00:00:00", "02:00:00:00:00:0g", "02000:00:00:00:5"],
    "network_alias": [["a b"], [""]],
    "dns": [["x"], [""], ["10.0.0.1\n"], ["fe80::1%eth0"]],
    "dns_search": [["a b"], [""], [".."], ["a\nb"], ["x" * 254]],
    "dns_option": [["a b"], [""], ["a\nnameserver 1.1.1.1"], ["ndots:x"]],
    "add_host": [["db"]],
    "publish": [["x"]],
    "expose": [["x"]],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option, values in WRONG.items() for value in values])
def test_what_makes_no_sense_is_quoted(option, value):
    with pytest.raises(InvalidArgument) as refused:
        request(**{option: value})
    assert f"--{option.replace('_', '-')} {(value[0] if isinstance(value, list) else value)!r}" in str(refused.value)
    assert refused.value.hint
