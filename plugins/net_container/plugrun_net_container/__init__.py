"""The ``container`` network driver: ``--net container:NAME`` and ``--net ns:PATH`` share a namespace that there is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plugrun.api import ApiVersion, DriverSpec, InvalidArgument, NetworkDriver, NetworkRequest, hookimpl

PATH_PREFIX = "ns:"
"""What a target begins with that is a path, which no container's name can."""


def _make(_state_dir: Path, _options: Any) -> NetworkDriver:
    from plugrun_net_container.driver import SharingDriver

    return SharingDriver()


def _probe(_state_dir: Path) -> str | None:
    return None  # every kernel that runs containers has network namespaces


@hookimpl
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:
    """Declare the driver."""
    return [DriverSpec("container", _make, _probe, api=ApiVersion(1, 0), priority=-10)]  # needs to be told a name


@hookimpl
def plugrun_parse_network(value: str) -> NetworkRequest | None:
    """Claim ``container:NAME`` and ``ns:PATH``."""
    word, colon, target = value.partition(":")
    if not colon or word not in {"container", "ns"}:
        return None
    if word == "ns":
        if not target.startswith("/"):
            raise InvalidArgument(f"the network {value!r} names no absolute path", hint="write --net ns:/PATH")
        return NetworkRequest("container", PATH_PREFIX + target)
    if not target:
        raise InvalidArgument(f"the network {value!r} names no container", hint="write --net container:NAME")
    return NetworkRequest("container", target)
