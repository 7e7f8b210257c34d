"""What doctor finds of containers' places on networks: those that are not as they were set up, and leftovers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun.doctor import Check
from plugrun.errors import Drift, PlugrunError
from plugrun.lifecycle import network
from plugrun.lifecycle.state import is_running

if TYPE_CHECKING:
    from plugrun.container import ContainerRecord
    from plugrun.endpoint import Endpoint
    from plugrun.engine import Engine


def checks(engine: Engine) -> Iterator[Check]:
    """Ask the drivers about every endpoint of running containers, and look for endpoints of others. Changes nothing."""
    right = 0
    for record in engine.containers.all():
        connected = [one for one in record.endpoints if one.result is not None]
        if not is_running(record):
            yield from (_leftover(record, one) for one in connected)
            continue
        for endpoint in connected:
            finding = _wrong(engine, record, endpoint)
            right += finding is None
            if finding is not None:
                yield Check("warn", f"network {endpoint.name} of {record.name}", finding)
    if right:
        yield Check("ok", "endpoints", f"{right} as {'it was' if right == 1 else 'they were'} set up")


def _wrong(engine: Engine, record: ContainerRecord, endpoint: Endpoint) -> str | None:
    result = network.result_of(endpoint.result)
    assert result is not None
    try:
        driver = engine.network(endpoint.driver, endpoint.options)
        netns = network.netns_of(engine, record)
        driver.check(network.attachment(engine, record, endpoint, netns), result)
    except Drift as drift:
        mend = f"plugrun network reload {record.name}; if that does not help, start it anew"
        return f"expected {drift.expected}, found {drift.found}: {mend}"
    except PlugrunError as error:
        return f"cannot be checked: {error}"
    except Exception as error:  # noqa: BLE001 - a driver that is broken must not hide what the others say
        return f"cannot be checked: {type(error).__name__}: {error}"
    return None


def _leftover(record: ContainerRecord, endpoint: Endpoint) -> Check:
    finding = f"the container does not run, and is still connected: plugrun stop {record.name}"
    return Check("warn", f"network {endpoint.name} of {record.name}", finding)
