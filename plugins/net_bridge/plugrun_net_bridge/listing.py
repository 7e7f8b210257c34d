"""The live rules as nft(8) lists them, for people to read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from plugrun.api import DriverError
from plugrun_net_bridge import nft

MISSING: Final = "missing"
_SET = re.compile(r"^\t(?:set|map) (\w+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_CHAIN = re.compile(r"^\tchain (\w+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)


class Listing:
    """One table."""

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            numbers, words = (nft.run(f"list table inet {name}", numeric=numeric) for numeric in (True, False))
        except DriverError:  # there is none
            numbers = words = ""
        self._sets = {found[1]: _elements(found[2]) for found in _SET.finditer(numbers)}
        self._chains = {found[1]: [line.strip() for line in found[2].splitlines()] for found in _CHAIN.finditer(words)}

    def has(self, name: str, element: str) -> bool:
        """Whether an element, as :class:`plugrun_net_bridge.elements.Element` writes it, is in a set or map."""
        return element in self._sets.get(name, ())

    def rule(self, chain: str, rule: str) -> str:
        """Return the rule, or what is to be said if the chain does not have it."""
        return rule if rule in self._chains.get(chain, ()) else f"{MISSING}: {rule}"


def _elements(text: str) -> frozenset[str]:
    """Return the elements in what is listed of one set or map."""
    _, _, rest = text.partition("elements = {")
    return frozenset(" ".join(one.split()) for one in rest.partition("}")[0].split(","))


def droppers(own: str) -> Iterator[str]:
    """Yield the chains of others through which forwarded packets go and that drop what none of their rules accepts."""
    listed: dict[str, Any] = json.loads(nft.run("list chains", json=True))
    for entry in listed["nftables"]:
        chain = entry.get("chain", {})
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and chain["table"] != own:
            yield f"chain {chain['name']} of table {chain['family']} {chain['table']}"
