"""Draw docs/bench/*.svg from the results beside them; started by `make plots`, which brings matplotlib.

The same results always make the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "plugrun", "svg.fonttype": "none", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of what draws

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "bench"
COLORS = {"overlay": "#8a8a8a", "btrfs": "#1f77b4"}
MARKS = {"snapshot": "o", "clone": "s", "rollback": "^", "paused": "x"}


def main() -> None:
    data = json.loads((RESULTS / "storage.json").read_text())
    branches(data["operations"])
    bars(data["rows"], "commit", "Commit of 10 changed files in an image of 50,000", "storage-commit.svg")
    bars(data["rows"], "create and rm", "Create and remove a container", "storage-create.svg")
    network = json.loads((RESULTS / "network.json").read_text())
    growth(network["growth"])
    ports(network["ports"])
    packets(network["paths"])


def branches(rows: Sequence[dict[str, Any]]) -> None:
    """Draw how long snapshots, clones and rollbacks take by what has been written."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for storage, color in COLORS.items():
        for operation, mark in MARKS.items():
            points = [row for row in rows if (row["storage"], row["operation"]) == (storage, operation)]
            label = f"{storage}: {'container stands still' if operation == 'paused' else operation}"
            line = ":" if operation == "paused" else "-"
            sizes, times = [row["bytes"] / 1e6 for row in points], [row["median"] for row in points]
            axes.plot(sizes, times, marker=mark, linestyle=line, color=color, label=label)
    axes.axhline(50, color="#d62728", linewidth=0.8, linestyle="--")
    axes.text(10, 55, "50 ms", color="#d62728", fontsize=8)
    axes.set(xscale="log", yscale="log", ylabel="ms")
    axes.set_title("Snapshot, clone and rollback of a container")
    axes.set_xlabel("MB written in the container, in files of 20 kB")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "storage-branches.svg")


def bars(rows: Sequence[dict[str, Any]], work: str, title: str, name: str) -> None:
    """Draw the medians of one kind of work, an engine a bar, from the fastest to the slowest."""
    chosen = sorted((row for row in rows if row["work"] == work), key=lambda row: row["median"], reverse=True)
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.5 * len(chosen)))
    labels = [f"{row['engine']}, {row['storage']}" for row in chosen]
    colors = ["#1f77b4" if row["engine"].startswith("plugrun") else "#8a8a8a" for row in chosen]
    drawn = axes.barh(labels, [row["median"] for row in chosen], color=colors)
    axes.bar_label(drawn, fmt="%.0f ms", padding=3)
    axes.set(title=title, xlabel="ms, median; whole commands")
    axes.margins(x=0.15)
    save(figure, name)


def growth(rows: Sequence[dict[str, Any]]) -> None:
    """Draw how long a start takes by how many containers there are."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for row in rows:
        counts, times = zip(*row["points"], strict=True)
        axes.plot(counts, times, marker=".", label=row["engine"])
    axes.set(
        title="Start of one more container", xlabel="containers on the bridge", ylabel="ms, median", ylim=(0, None)
    )
    axes.legend(fontsize=8)
    save(figure, "network-growth.svg")


def ports(rows: Sequence[dict[str, Any]]) -> None:
    """Draw how long a start takes by how many ports it publishes."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for engine in dict.fromkeys(row["engine"] for row in rows):
        points = [row for row in rows if row["engine"] == engine and row["start"] is not None]
        axes.plot([row["ports"] for row in points], [row["start"] for row in points], marker="o", label=engine)
    axes.set(xscale="log", yscale="log", title="Start of a container that publishes a range of ports")
    axes.set(xlabel="ports", ylabel="ms, median")
    axes.legend(fontsize=8)
    save(figure, "network-ports.svg")


def packets(rows: Sequence[dict[str, Any]]) -> None:
    """Draw the throughput on each way, as a part of that of the plain veth pair in the same round."""
    ways = list(dict.fromkeys(row["way"] for row in rows))
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.25 * len(rows)))
    height = 0.8 / len(engines)
    for number, engine in enumerate(engines):
        ratios = {row["way"]: row["rate_of_plain"] for row in rows if row["engine"] == engine}
        places = [place + number * height for place in range(len(ways))]
        drawn = axes.barh(places, [ratios[way] for way in ways], height=height, label=engine)
        axes.bar_label(drawn, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(ways))], ways)
    axes.invert_yaxis()
    axes.set(title="TCP throughput", xlabel="of that of a plain veth pair")
    axes.margins(x=0.1)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "network-packets.svg")


def save(figure: Any, name: str) -> None:
    figure.savefig(RESULTS / name, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    print(f"bench: drew docs/bench/{name}")


if __name__ == "__main__":
    main()
