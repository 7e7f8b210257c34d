"""The ``container`` network driver: announced, not written yet. Its probe says so, and what to use meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from plugrun.api import ApiVersion, DriverSpec, InvalidArgument, NetworkDriver, NetworkRequest, Unavailable, hookimpl

_REASON = "plugrun 0.1.0 only announces the container driver; it comes with a later release"
_HINT = "use --net host or --net none"


def _make(_state_dir: Path, _options: Any) -> NoReturn:
    raise Unavailable(_REASON, hint=_HINT)


def _probe(_state_dir: Path) -> str | None:
    return f"{_REASON}; {_HINT}"


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    return [DriverSpec("container", _make, _probe, api=ApiVersion(1, 0), priority=0)]


@hookimpl
def plugrun_parse_network(value: str) -> NetworkRequest | None:
    """Claim ``container:NAME``."""
    driver, colon, target = value.partition(":")
    if driver != "container" or not colon:
        return None
    if not target:
        raise InvalidArgument(f"the network {value!r} names no container", hint="write --net container:NAME")
    return NetworkRequest("container", target)
