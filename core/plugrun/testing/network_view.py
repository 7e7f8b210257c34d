"""What there is on a host: everything in which a network driver may leave something behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plugrun.testing.network_host import ip_batch, processes

View = frozenset[str]

# seconds for the kernel, which removes interfaces with their namespace in its own time
PATIENCE = float(os.environ.get("PLUGRUN_LEAK_PATIENCE", "10"))
FOREIGN = """
table inet foreign {
    set addresses { type ipv4_addr; elements = { 192.0.2.77, 192.0.2.78 } }
    chain forward { type filter hook forward priority 10; policy accept; ip saddr @addresses drop; }
}
"""


def view() -> View:
    """Describe the current network namespace, a line for each thing; what changes by itself is left out."""
    return frozenset([*_links(), *_rules(), *_processes(), *_named()])


def settled(expected: View, when: str) -> None:
    """Wait until the host looks as it did.

    :raises AssertionError: it does not in ``PATIENCE`` seconds; says what is there and should not be.
    """
    deadline = time.monotonic() + PATIENCE
    while (now := view()) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    _same(now, expected, when)


def unchanged(expected: View, when: str) -> None:
    """See that the host looks as it did, now.

    :raises AssertionError: as :func:`settled`.
    """
    _same(steady(), expected, when)


def _same(now: View, expected: View, when: str) -> None:
    more = "".join(f"\n  + {line}" for line in sorted(now - expected))
    less = "".join(f"\n  - {line}" for line in sorted(expected - now))
    assert now == expected, f"the host differs {when}:{more}{less}"


def steady() -> View:
    """Return what there is once it changes no more, as it does for a moment after an interface came or went."""
    before = view()
    while (now := view()) != before:
        before = now
    return now


def has_nft() -> bool:
    """Whether rules can be looked at."""
    return shutil.which("nft") is not None


def nft(*arguments: str, rules: str = "") -> str:
    """Run ``nft`` and return what it prints."""
    return subprocess.run(["nft", *arguments], input=rules, check=True, capture_output=True, text=True).stdout


def add_foreign_rules() -> None:
    """Have rules of somebody else on the host, if it has ``nft``."""
    if has_nft():
        nft("-f", "-", rules=FOREIGN)


def foreign_rules() -> str:
    """Return the rules of somebody else, as they are listed."""
    return nft("list", "table", "inet", "foreign") if has_nft() else ""


def _links() -> Iterator[str]:
    answers = ip_batch(["addr show", "route show table all", "rule show"]).splitlines()
    links, routes, rules = map(json.loads, answers)
    for link in links:
        kind = link.get("linkinfo", {}).get("info_kind", "")
        yield f"interface {link['ifname']} {kind} {link.get('master', '')}".rstrip()
        for address in link["addr_info"]:
            if address["scope"] != "link":  # the kernel gives those, when an interface gets a carrier
                yield f"address {address['local']}/{address['prefixlen']} of {link['ifname']}"
    for route in routes:
        # the kernel makes these itself: for link-local addresses, and for routers, which a host with containers becomes
        if not route["dst"].startswith(("fe80:", "ff00:")) and route.get("type") != "anycast":
            words = (route.get(key, "") for key in ("type", "dst", "gateway", "dev", "table"))
            yield " ".join(["route", *words])
    for rule in rules:
        yield f"rule {json.dumps(rule, sort_keys=True)}"


def _rules() -> Iterator[str]:
    if not has_nft():
        return
    for item in json.loads(nft("-j", "list", "ruleset"))["nftables"]:
        if "metainfo" not in item:
            yield f"nft {json.dumps(_steady(item), sort_keys=True)}"


def _steady(item: Any) -> Any:
    """Leave out of what ``nft -j`` prints what is no part of the rules: handles, counts, and the order in a set."""
    if isinstance(item, list):
        return [_steady(one) for one in item]
    if not isinstance(item, dict):
        return item
    kept = {key: _steady(value) for key, value in item.items() if key not in {"handle", "packets", "bytes"}}
    for key in ("elem", "set"):
        if isinstance(kept.get(key), list):
            kept[key] = sorted(kept[key], key=lambda one: json.dumps(one, sort_keys=True))
    return kept


def _processes() -> Iterator[str]:
    seen: Counter[str] = Counter()
    for pid in processes():
        with contextlib.suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text().strip()
            seen[name] += 1
            yield f"process {name} ({seen[name]})"  # without its number: a driver may replace one by another


def _named() -> Iterator[str]:
    for name in os.listdir("/run/netns") if os.path.isdir("/run/netns") else []:
        yield f"network namespace /run/netns/{name}"
