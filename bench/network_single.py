"""One port of a running container, in a process that is warm: what the rules take, the driver, and the engine.

The driver also has a process hold the port, and writes down who has it; the engine writes the container's record.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import page
from engines import Engine, opened, output

ROUNDS = int(os.environ.get("SINGLE_ROUNDS", "50"))
OTHERS = 10_000  # ports of another container, which make no range: each goes to the same port inside
FIRST_OTHER, PORT = 20_000, 8080


def measure(plugrun: Engine) -> list[dict[str, Any]]:
    """Return a row for each number of ports that others have published before; times in milliseconds."""
    from plugrun.api import PortMapping
    from plugrun.lifecycle import connect

    for name in ("web", "others"):
        output(plugrun.run_sleeper("--name", name))
    try:
        with opened(plugrun) as engine:
            rows = _one_port(engine, 0)
            ports = tuple(PortMapping(80, FIRST_OTHER + number) for number in range(OTHERS))
            page.progress(f"{OTHERS} single ports")
            elapsed = _timed(lambda: connect.publish(engine, engine.containers.find("others"), lambda _: ports))
            rows.append(_row("publish", "in the engine", 0, [elapsed], ports=OTHERS))
            return rows + _one_port(engine, OTHERS)
    finally:
        plugrun.remove_all()


def _one_port(engine: Any, others: int) -> list[dict[str, Any]]:
    from plugrun.api import PortMapping
    from plugrun.lifecycle import connect, network

    page.progress(f"one port beside {others}")
    record = engine.containers.find("web")
    one = (PortMapping(80, PORT),)
    in_engine: dict[str, list[float]] = {"publish": [], "withdraw": []}
    for _ in range(ROUNDS + 1):
        in_engine["publish"].append(_timed(lambda: connect.publish(engine, record, lambda _: one)))
        in_engine["withdraw"].append(_timed(lambda: connect.publish(engine, record, lambda _: ())))

    record = engine.containers.find("web")
    (endpoint,) = record.endpoints
    driver = engine.network(endpoint.driver, endpoint.options)
    bare = network.attachment(engine, record, endpoint, network.netns_of(engine, record))
    result = network.result_of(endpoint.result)
    in_driver: dict[str, list[float]] = {"publish": [], "withdraw": []}
    in_rules: dict[str, list[float]] = {"publish": [], "withdraw": []}
    for _ in range(ROUNDS + 1):
        for work, at in (("publish", bare._replace(ports=one)), ("withdraw", bare)):
            with _rules_timed(in_rules[work]):
                started = time.perf_counter()
                result = driver.publish(at, result)
                in_driver[work].append((time.perf_counter() - started) * 1000)
    return [
        _row(work, where, others, times[work][1:])
        for where, times in (("in the rules", in_rules), ("in the driver", in_driver), ("in the engine", in_engine))
        for work in ("publish", "withdraw")
    ]


def _rules_timed(times: list[float]) -> AbstractContextManager[object]:
    """Have the time of every change of published ports in nftables added to ``times``."""
    from plugrun_net_bridge.table import Table

    whole = Table.change

    def change(*arguments: Any) -> None:
        started = time.perf_counter()
        whole(*arguments)
        times.append((time.perf_counter() - started) * 1000)

    return mock.patch.object(Table, "change", change)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _row(work: str, where: str, others: int, times: Sequence[float], ports: int = 1) -> dict[str, Any]:
    median, slowest = statistics.median(times), max(times)
    about = {"work": work, "where": where, "others": others, "ports": ports}
    return about | {"median": median, "slowest": slowest}
