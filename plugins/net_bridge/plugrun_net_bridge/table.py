"""The table of nftables that all bridge networks share: kept as it should be, whatever others do to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.api import DriverError
from plugrun.tuples import NamedTuple
from plugrun_net_bridge import elements as known
from plugrun_net_bridge import listing, nft, ruleset
from plugrun_net_bridge.live import Live
from plugrun_net_bridge.netlink import Changed

if TYPE_CHECKING:
    from plugrun_net_bridge.elements import Element, NetworkRules, Published, Wanted

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_TRIES = 5


class _Note(NamedTuple):
    """What was known when the table was last seen intact.

    :param place: this boot, this network namespace.
    :param generation: of all rules there.
    :param fingerprint: of the table without what is in its sets.
    """

    place: str
    generation: int
    fingerprint: str


class Table:
    """One table. Only one process at a time may use it, and the one that does must see what ``wanted`` returns.

    :param name: ``[a-z][a-z0-9_]*``; the table belongs to this object alone.
    :param memory: a file that remembers what the table was like; it may be lost at any time.
    :param wanted: everything the rules are to know. It is asked when the table must be made anew.
    """

    def __init__(self, name: str, memory: Path, wanted: Callable[[], Wanted]) -> None:
        self.name = name
        self._memory = memory
        self._wanted = wanted

    def ensure(self) -> bool:
        """Make the table anew if it is not as it was; takes 0.1 ms if nobody has changed any rule.

        :return: whether it had to.
        :raises Unavailable: nftables cannot be used here.
        :raises DriverError: nftables refused.
        """
        with Live() as live:
            note, generation = self._recall(), live.generation()
            if note is not None and note.place == _place(live):
                if note.generation == generation:
                    return False
                if self._is_intact(live, note.fingerprint):
                    if live.generation() == generation:
                        self._remember(note._replace(generation=generation))
                    return False
        self.rebuild()
        return True

    def rebuild(self) -> None:
        """Make the table anew from what is wanted, in one transaction: no packet sees it missing.

        :raises Unavailable: nftables cannot be used here.
        :raises DriverError: nftables refused; the table is as it was.
        """
        with Live() as live:
            before = live.generation()
            nft.run(ruleset.whole(self.name, self._wanted()))
            fingerprint = live.fingerprint(self.name)
            self._forget()
            if fingerprint is not None and live.generation() == before + 1:
                self._remember(_Note(_place(live), before + 1, fingerprint))

    def add_network(self, network: NetworkRules) -> None:
        """Let the rules know a network; nothing changes if they do.

        :raises DriverError: nftables refused.
        """
        self._apply((), known.of_network(network))

    def remove_network(self, network: NetworkRules) -> None:
        """Have the rules forget a network; nothing changes if they have."""
        self._apply(known.of_network(network), ())

    def change(self, removed: Sequence[Published], added: Sequence[Published]) -> None:
        """Unpublish ports and publish others, in one transaction.

        What is not there any more, or already there, is fine.

        :raises FailedPrecondition: the container has no address at which a port would be reachable.
        :raises DriverError: nftables refused; nothing has changed.
        """
        self._apply(_all(removed), _all(added))

    def holds(self, published: Published) -> bool:
        """Whether the live table publishes exactly this."""
        elements = list(known.of_published(published))
        return len(self._there(elements)) == len(elements)

    def remove(self) -> None:
        """Remove the table, if it is there."""
        self._forget()
        nft.run(f"add table inet {self.name}\ndelete table inet {self.name}")

    # --- Changes -----------------------------------------------------------------------------------------------------

    def _apply(self, removed: Iterable[Element], added: Iterable[Element]) -> None:
        removed, added = list(removed), list(added)
        if not removed and not added:
            return
        self.ensure()
        try:
            self._run(removed, added)
        except DriverError:
            # What a crash has left: something to remove is gone, or what is to be added leads elsewhere.
            self.rebuild()
            self._run(self._there(removed), added)

    def _run(self, removed: Sequence[Element], added: Sequence[Element]) -> None:
        with Live() as live:
            before, note = live.generation(), self._recall()
            nft.run(ruleset.change(self.name, removed, added))
            if note is not None and note.generation == before and live.generation() == before + 1:
                self._remember(note._replace(generation=before + 1))

    def _there(self, elements: Sequence[Element]) -> list[Element]:
        """Return those that the live table has, with the same values."""
        found = {name: listing.elements(self._look(name, ones)) for name, ones in known.by_set(elements).items()}
        return [one for one in elements if str(one) in found[one.set]]

    def _look(self, name: str, elements: Sequence[Element]) -> str:
        """List some elements of a set; all of it, if there is one among them that it does not have."""
        keys = ", ".join(one.key for one in elements)
        with contextlib.suppress(DriverError):
            return nft.run(f"get element inet {self.name} {name} {{ {keys} }}")
        with contextlib.suppress(DriverError):  # no such table
            return nft.run(f"list set inet {self.name} {name}")
        return ""

    def _is_intact(self, live: Live, fingerprint: str) -> bool:
        """Whether the table is the one that was built, and its sets have as many elements as they should."""
        for _ in range(_TRIES):
            try:
                return live.fingerprint(self.name) == fingerprint and self._is_full(live.counts(self.name))
            except Changed:  # somebody changes rules just now
                continue
        return False

    def _is_full(self, counts: Mapping[str, int]) -> bool:
        wanted = known.by_set(known.of_all(self._wanted()))
        named = {name: count for name, count in counts.items() if not name.startswith("__")}
        return all(count == len({one.key for one in wanted.get(name, ())}) for name, count in named.items())

    # --- The note ----------------------------------------------------------------------------------------------------

    def _recall(self) -> _Note | None:
        try:
            place, generation, fingerprint = self._memory.read_text(encoding="ascii").split()
            return _Note(place, int(generation), fingerprint)
        except (OSError, ValueError):  # none, or a crash has cut it off
            return None

    def _remember(self, note: _Note) -> None:
        with open(self._memory, "w", encoding="ascii") as stream:
            stream.write(f"{note.place} {note.generation} {note.fingerprint}\n")

    def _forget(self) -> None:
        self._memory.unlink(missing_ok=True)


def _all(published: Sequence[Published]) -> list[Element]:
    return [element for one in published for element in known.of_published(one)]


def _place(live: Live) -> str:
    with open(_BOOT_ID, encoding="ascii") as stream:
        return f"{stream.read().strip()}/{live.namespace}"
