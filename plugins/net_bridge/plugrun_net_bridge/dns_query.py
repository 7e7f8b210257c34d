"""One DNS question to one server (RFC 1035), to learn whether a resolver answers for a container yet.

A resolver library would take longer to import than the rest of a container's network takes to make.
"""

from __future__ import annotations

import os
import socket
import struct
import time

_A, _AAAA, _IN = 1, 28, 1
_RECURSION_DESIRED = 0x0100
_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_POINTER = 0xC0
_LONGEST_LABEL = 63
_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.1  # seconds: a question may be lost while the server reloads


def fits(name: str) -> bool:
    """Whether DNS can ask for a name: labels of up to 63 bytes, 253 in all (RFC 1035, 2.3.4)."""
    return len(name) <= 253 and all(0 < len(label) <= _LONGEST_LABEL for label in name.split("."))


def answers(server: str, name: str, address: str, timeout: float) -> bool:
    """Ask until a server's answer has ``address`` among those of ``name``.

    :param server: an IPv4 or IPv6 address; asked at port 53.
    :param timeout: seconds.
    :return: whether it did in time.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    address = socket.inet_ntop(family, socket.inet_pton(family, address))  # as ask() writes it
    deadline = time.monotonic() + timeout
    wait = _SHORTEST_WAIT
    while (left := deadline - time.monotonic()) > 0:
        begun = time.monotonic()
        if address in ask(server, name, ipv6=":" in address, timeout=min(wait, left)):
            return True
        time.sleep(max(0.0, min(_SHORTEST_WAIT, left) - (time.monotonic() - begun)))  # it may be refused at once
        wait = min(wait * 2, _LONGEST_WAIT)
    return False


def ask(server: str, name: str, *, ipv6: bool, timeout: float) -> frozenset[str]:
    """Ask once for the addresses of ``name``; none if there is no answer, or no good one."""
    kind = _AAAA if ipv6 else _A
    question = _question(name, kind)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            link.settimeout(timeout)
            link.connect((server, 53))
            link.send(question)
            reply = link.recv(4096)
    except OSError:
        return frozenset()
    if reply[:2] != question[:2] or reply[12 : len(question)] != question[12:]:
        return frozenset()
    return _addresses(reply, len(question), kind)


def _question(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    header = _HEADER.pack(int.from_bytes(os.urandom(2), "big"), _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", kind, _IN)


def _addresses(reply: bytes, place: int, kind: int) -> frozenset[str]:
    """Return the addresses in the records from ``place`` on; none if the reply is cut off or makes no sense."""
    found = set()
    try:
        for _ in range(_HEADER.unpack_from(reply)[3]):
            place = _after_name(reply, place)
            record, _, _, size = _RECORD.unpack_from(reply, place)
            place += _RECORD.size
            if record == kind:
                family = socket.AF_INET6 if kind == _AAAA else socket.AF_INET
                found.add(socket.inet_ntop(family, reply[place : place + size]))
            place += size
    except (IndexError, ValueError, struct.error):
        return frozenset()
    return frozenset(found)


def _after_name(reply: bytes, place: int) -> int:
    while length := reply[place]:
        if length & _POINTER == _POINTER:
            return place + 2
        place += 1 + length
    return place + 1
