"""Addresses and names on a network, as users write them."""

from __future__ import annotations

import re

from plugrun.errors import InvalidArgument

_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"  # a word of /etc/hosts; compose's have underscores
_MAC = r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"


def address(text: str, what: str, version: int | None = None) -> str:
    """Read an address, with or without brackets, and write it the usual way.

    :param what: the option it is from, for messages.
    :param version: 4 or 6; ``None`` for either.
    :raises InvalidArgument: it is none, or the wrong kind.
    """
    import ipaddress

    bare = text[1:-1] if text.startswith("[") and text.endswith("]") and ":" in text else text
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        found = None
    if found is None or "%" in bare or version not in {None, found.version}:
        kind = f"IPv{version}" if version else "IP"
        hint = {4: "write e.g. 10.0.0.5", 6: "write e.g. fd00::5"}.get(version or 0, "write e.g. 10.0.0.5 or fd00::5")
        raise InvalidArgument(f"{what} {text!r} is no {kind} address", hint=hint)
    return str(found)


def mac(text: str, what: str) -> str:
    """Read a hardware address.

    :raises InvalidArgument: it is none, or no interface can have it.
    """
    found = text.lower().replace("-", ":")
    if not re.fullmatch(_MAC, found, re.ASCII):
        raise InvalidArgument(f"{what} {text!r} is no hardware address", hint="write e.g. 02:00:00:00:00:05")
    if int(found[:2], 16) & 1 or found == "00:00:00:00:00:00":
        raise InvalidArgument(
            f"{what} {text!r} cannot be an interface's address", hint="its first byte has to be even, as in 02:…"
        )
    return found


def alias(text: str, what: str) -> str:
    """Check a name that the container gets on a network.

    :raises InvalidArgument: it cannot be one.
    """
    if not re.fullmatch(_NAME, text, re.ASCII):
        raise InvalidArgument(f"{what} {text!r} cannot be a name", hint="use letters, digits, '-', '_' and '.'")
    return text
