"""What nft(8) lists, taken apart."""

from __future__ import annotations

_START = "elements = {"


def elements(text: str) -> frozenset[str]:
    """Return the elements in the listing of one set or map, as :class:`plugrun_net_bridge.ruleset.Element` writes them.

    ``nft -j`` does not list single elements as JSON (1.0.6), hence text.
    """
    _, found, rest = text.partition(_START)
    if not found:
        return frozenset()
    return frozenset(" ".join(one.split()) for one in rest.partition("}")[0].split(","))
