"""Whether bridges, pairs of interfaces and rules can be made here: asked so that nothing is made."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct

from plugrun_net_bridge import links
from plugrun_net_bridge.rtnetlink import Rtnetlink

_LIBRARY = "libnftables.so.1"
_LINKER_CACHE = "/etc/ld.so.cache"
_NO_ADDRESS = "00:00:00:00:00:00"

# linux/netfilter/nfnetlink.h, nf_tables.h
_GET_GENERATION = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
_REQUEST, _ERROR = 0x1, 2


def probe() -> str | None:
    """Say what is missing for the bridge driver, ``None`` if nothing is."""
    return _links_problem() or _rules_problem() or _library_problem()


def _links_problem() -> str | None:
    with Rtnetlink() as link:
        for kind, option in (("bridge", "CONFIG_BRIDGE"), ("veth", "CONFIG_VETH")):
            number = _try(link, kind)
            if number == errno.EPERM:
                return "bridges need the capability CAP_NET_ADMIN; run as root, outside of an unprivileged container"
            if number == errno.EOPNOTSUPP:
                return f"the kernel has no {kind} interfaces ({option}); use --net host"
    return None


def _try(link: Rtnetlink, kind: str) -> int:
    """Ask for an interface with an address that none can have: the kernel says so, unless something else is missing."""
    try:
        link.send(links.new_link("plugrun-probe", kind, _NO_ADDRESS))
    except OSError as error:
        return error.errno or 0
    return 0


def _rules_problem() -> str | None:
    missing = "the kernel has no nftables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT); use --net host"
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as netfilter:
            netfilter.send(struct.pack("=IHHIIBBH", 20, _GET_GENERATION, _REQUEST, 1, 0, 0, 0, 0))
            answer = netfilter.recv(4096)
    except OSError:
        return missing
    return missing if struct.unpack_from("=IH", answer)[1] == _ERROR else None


def _library_problem() -> str | None:
    try:
        with open(_LINKER_CACHE, "rb") as stream:
            if f"\0{_LIBRARY}\0".encode() in stream.read():
                return None
    except OSError:
        pass
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"{_LIBRARY} is not installed; install the Debian package libnftables1"
    return None
