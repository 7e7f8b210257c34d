from __future__ import annotations

from types import SimpleNamespace

import pytest

from plugrun.images.config import ImageConfig
from plugrun.lifecycle.endpoints import exposed_ports
from plugrun.ports import PortMapping, exposed, settled_as_before
from plugrun.request import ContainerRequest, merge


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (PortMapping(80, 8080), "0.0.0.0:8080->80/tcp"),
        (PortMapping(53, 5300, "udp", "127.0.0.1", 10), "127.0.0.1:5300-5309->53-62/udp"),
        (PortMapping(80, 8080, host_address="::1"), "[::1]:8080->80/tcp"),
    ],
)
def test_reads_as_users_know_it(mapping, text):
    assert str(mapping) == text


def test_exposed_ports():
    assert exposed("80") == (PortMapping(80),)
    assert exposed("80-82/UDP") == tuple(PortMapping(port, 0, "udp") for port in (80, 81, 82))


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "82-80", "80/icmp", "80/tcp\n", "80-", "-80", "٣", "80/x/udp"])
def test_what_an_image_exposes_may_make_no_sense(text):
    assert exposed(text) == ()


def test_an_image_exposes_no_more_than_there_are_ports():
    hostile = {f"1-{65535 - number}/tcp": {} for number in range(1000)}
    config = ImageConfig("amd64", "linux", cmd=("sh",), exposed_ports=("80/tcp", "nonsense", *hostile))
    request = ContainerRequest("image", (), exposed=("90/tcp",))
    found = merge(request, SimpleNamespace(id="0" * 64, config=config), hostname="web").exposed
    assert found == ("80/tcp", "1-65535/tcp", "1-65534/tcp", "1-65533/tcp", "90/tcp")


def test_what_is_published_is_not_exposed_again():
    published = [PortMapping(80, 8080), PortMapping(5000, 6000, "udp", size=3)]
    found = exposed_ports(["80/tcp", "80/udp", "5001-5003/udp", "80/udp"], published)
    assert found == (PortMapping(80, 0, "udp"), PortMapping(5003, 0, "udp"))


def test_ports_of_the_host_that_were_chosen_stay():
    asked = [PortMapping(80), PortMapping(81, 8081), PortMapping(80, 0, "udp")]
    settled = [PortMapping(80, 40001), PortMapping(81, 8081), PortMapping(80, 40002, "udp"), PortMapping(82, 40003)]
    wanted = [*asked, PortMapping(81), PortMapping(83)]
    assert settled_as_before(wanted, settled, asked) == (*settled[:3], PortMapping(81), PortMapping(83))
