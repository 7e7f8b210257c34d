"""The table of nftables that all bridge networks share: kept as it should be, whatever others do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from plugrun.api import DriverError, NamedTuple
from plugrun_net_bridge import nft, ruleset
from plugrun_net_bridge.conntrack import end_flows
from plugrun_net_bridge.elements import NetworkRules, Wanted, count, of_network
from plugrun_net_bridge.live import Live, Outdated, opened
from plugrun_net_bridge.mapped import Mapped, Published, check, mapped
from plugrun_net_bridge.netlink import Changed

__all__ = ["NetworkRules", "Published", "Table", "Wanted"]

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
        live, note = opened(), self._recall()
        if note is None or note.place != _place(live):
            self.rebuild()
            return True
        generation = live.generation()
        if note.generation == generation:
            return False
        if not self._is_intact(live, note.fingerprint):
            self.rebuild()
            return True
        if live.generation() == generation:
            self._remember(note._replace(generation=generation))
        return False

    def rebuild(self) -> None:
        """Make the table anew from what is wanted, in one transaction: no packet sees it missing.

        :raises Unavailable: nftables cannot be used here.
        :raises DriverError: nftables refused; the table is as it was.
        """
        live = opened()
        before = live.generation()
        nft.run(ruleset.whole(self.name, self._wanted()))
        try:
            fingerprint = live.fingerprint(self.name)
        except Changed:  # by somebody else, just now: whoever is next looks again
            fingerprint = None
        self._forget()
        if fingerprint is not None and live.generation() == before + 1:
            self._remember(_Note(_place(live), before + 1, fingerprint))

    def add_network(self, network: NetworkRules) -> None:
        """Let the rules know a network; nothing changes if they do.

        :raises DriverError: nftables refused.
        """
        self._run(ruleset.addition(self.name, of_network(network)))

    def remove_network(self, network: NetworkRules) -> None:
        """Have the rules forget a network; nothing changes if they have."""
        self._run(ruleset.removal(self.name, of_network(network._replace(internal=True))))

    def change(self, removed: Sequence[Published], added: Sequence[Published]) -> None:
        """Unpublish ports and publish others, in one transaction.

        What is not there any more, or already there, is fine.

        :raises FailedPrecondition: the container has no address at which a port would be reachable.
        :raises DriverError: nftables refused; nothing has changed.
        """
        check(added)
        gone, new = list(mapped(removed)), list(mapped(added))
        if not gone and not new:
            return
        ended = gone
        for _ in range(_TRIES):
            try:
                self._change(gone, new)
            except Outdated:  # somebody has changed rules since they were last looked at
                self.ensure()
            except OSError:  # a crash has left less than is to be removed, or something in the way
                self.rebuild()
                gone = opened().has(self.name, gone)
            else:
                end_flows(opened().netlink, ended, new)
                return
        raise DriverError(f"published ports in the table {self.name} of nftables cannot be changed")

    def holds(self, published: Published) -> bool:
        """Whether the live table publishes exactly this."""
        elements = list(mapped([published]))
        return opened().has(self.name, elements) == elements

    def remove(self) -> None:
        """Remove the table, if it is there."""
        self._forget()
        nft.run(f"add table inet {self.name}\ndelete table inet {self.name}")

    # --- Changes -----------------------------------------------------------------------------------------------------

    def _change(self, removed: Sequence[Mapped], added: Sequence[Mapped]) -> None:
        """Change maps, provided that nobody has changed any rule since the note was made.

        :raises Outdated: somebody has, or may have.
        :raises OSError: the maps are not as expected.
        """
        live, note = opened(), self._recall()
        if note is None or note.place != _place(live):
            raise Outdated
        live.change(self.name, note.generation, removed, added)
        self._remember(note._replace(generation=note.generation + 1))

    def _run(self, commands: str) -> None:
        """Run commands that change what is in sets."""
        self.ensure()
        live, note = opened(), self._recall()
        before = live.generation()
        nft.run(commands)
        if note is not None and note.generation == before and live.generation() == before + 1:
            self._remember(note._replace(generation=before + 1))

    def _is_intact(self, live: Live, fingerprint: str) -> bool:
        """Whether the table is the one that was built, and its sets have as many elements as they should."""
        for _ in range(_TRIES):
            try:
                return live.fingerprint(self.name) == fingerprint and self._is_full(live.counts(self.name))
            except Changed:  # somebody changes rules just now
                continue
        return False

    def _is_full(self, counts: Mapping[str, int]) -> bool:
        wanted = count(self._wanted())
        named = {name: number for name, number in counts.items() if not name.startswith("__")}
        return named == {name: wanted.get(name, 0) for name in named}

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


def _place(live: Live) -> str:
    with open(_BOOT_ID, encoding="ascii") as stream:
        return f"{stream.read().strip()}/{live.namespace}"
