"""The section on networks of docs/bench/README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

TEMPLATE = """# Benchmark: networks

Written by `make bench`: {about}. Every engine
as it is after its installation, on its default bridge: podman with netavark, docker with iptables and its userland
proxy, plugrun with nftables. "of plugrun's" below 1.00x is faster than plugrun.

## Many starts at once

{parallel}

"all": from the first start until the last `run -d` has ended, median of {parallel_rounds} rounds, and the slowest of
them. "one": what a single command took, of those of all rounds. Docker's daemon runs already.

## One more container beside many

{growth}

`run -d`, milliseconds: the median of the start that makes so many containers and of two before and after it (the first
has only those after it); "of the 1st": the last one measured. Every engine has the machine to itself, and starts as
many as "started" says in "s" seconds: where a column is empty its time was over.

![Start beside many containers](network-growth.svg)

## Published ports

{ports}

`run -d -p FIRST-LAST:FIRST-LAST`, milliseconds: "start" is the median of the whole command, "more" what it is above
that of the same command without ports in the same rounds; a few milliseconds of it, also below zero, are chance. "too
long": left out, as a tenth of the ports lets expect more than {too_long:.0f} seconds. Docker starts a process for each
port and address family.

![Published ports](network-ports.svg)

One port of a running container of plugrun's, published and withdrawn in a Python process in which the engine is loaded:
"in the rules" is what nftables takes; "in the driver" the network driver, which also has a process hold the port, so
that no program of the host gets it, and writes down whose it is; "in the engine" the call that also locks the container
and records its ports. "beside" is how many ports another container has published, each a mapping of its own.
Milliseconds.

{single}

## Packets

{paths}

TCP, {seconds} s each: a stream (iperf3), and the median of 64 bytes and their answer (sockperf). Medians of {rounds}
rounds in which each way takes its turn; ratios are of the same round, and their medians too. "plain" is a veth pair
between two namespaces; "routed" a veth pair to the host and one from it, without any rule: the least that a way from
the LAN can be, as "plain" is for the others. "trip" is there and back. A rate below 1.00x and a trip above it are what
the engine costs. The programs are the host's, in the network namespaces of the containers. Engines come one after
another, each beside plain pairs anew; packets of later ones pass also the rules that the earlier ones left.

![Packets](network-packets.svg)
"""


def fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template needs, tables first."""
    settings: Mapping[str, Any] = data["settings"]
    return {
        "parallel": parallel_table(data["parallel"]),
        "growth": growth_table(data["growth"]),
        "ports": ports_table(data["ports"]),
        "single": single_table(data["single"]),
        "paths": paths_table(data["paths"]),
        **settings,
    }


def parallel_table(rows: Rows) -> str:
    lines = [
        "| engine           | containers | all ms | slowest | of plugrun's | one: median ms | p95 ms |",
        "|------------------|-----------:|-------:|--------:|-------------:|---------------:|-------:|",
    ]
    for row in rows:
        together = f"{row['containers']:10} | {row['all']:6.0f} | {row['slowest']:7.0f} | {row['ratio']:11.2f}x"
        lines.append(f"| {row['engine']:16} | {together} | {row['median']:14.0f} | {row['p95']:6.0f} |")
    return "\n".join(lines)


SHOWN = (1, 100, 500)


def growth_table(rows: Rows) -> str:
    heads = " | ".join(f"{number}{'st' if number == 1 else 'th'} ms".rjust(8) for number in SHOWN)
    lines = [
        f"| engine           | started |   s | {heads} | of the 1st |",
        f"|------------------|--------:|----:|{'---------:|' * len(SHOWN)}-----------:|",
    ]
    for row in rows:
        points = {number: time for number, time in row["points"] if number in SHOWN}
        times = " | ".join(optional(points.get(number), 8) for number in SHOWN)
        ratio = points[max(points)] / points[1]
        lines.append(f"| {row['engine']:16} | {row['started']:7} | {row['seconds']:3.0f} | {times} | {ratio:9.2f}x |")
    return "\n".join(lines)


def ports_table(rows: Rows) -> str:
    lines = [
        "| engine           | ports | start ms | more ms  |",
        "|------------------|------:|---------:|---------:|",
    ]
    for row in rows:
        more = "too long" if row["more"] is None else optional(row["more"], 8)
        lines.append(f"| {row['engine']:16} | {row['ports']:5} | {optional(row['start'], 8)} | {more} |")
    return "\n".join(lines)


def single_table(rows: Rows) -> str:
    lines = [
        "| work     | where         | beside | ports | median ms | slowest ms |",
        "|----------|---------------|-------:|------:|----------:|-----------:|",
    ]
    for row in rows:
        about = f"{row['work']:8} | {row['where']:13} | {row['others']:6} | {row['ports']:5}"
        lines.append(f"| {about} | {row['median']:9.2f} | {row['slowest']:10.2f} |")
    return "\n".join(lines)


def paths_table(rows: Rows) -> str:
    lines = [
        "| engine           | way                         | Gbit/s | of plain | routed | trip us | of plain | routed |",
        "|------------------|-----------------------------|-------:|---------:|-------:|--------:|---------:|-------:|",
    ]
    for row in rows:
        rate = f"{row['rate']:6.2f} | {row['rate_of_plain']:7.2f}x | {row['rate_of_routed']:5.2f}x"
        delay = f"{row['delay']:7.1f} | {row['delay_of_plain']:7.2f}x | {row['delay_of_routed']:5.2f}x"
        lines.append(f"| {row['engine']:16} | {row['way']:27} | {rate} | {delay} |")
    return "\n".join(lines)


def optional(value: float | None, width: int) -> str:
    return " " * width if value is None else f"{value:{width}.0f}"
