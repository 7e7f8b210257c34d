"""Names of containers on users' networks: aardvark-dns answers for them at each network's gateway.

It is told by files (:mod:`.dns_zones`) and runs on its own (:mod:`.dns_daemon`): none of it needs plugrun to be there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun_net_bridge import dns_query
from plugrun_net_bridge.dns_daemon import Daemon, find_program
from plugrun_net_bridge.dns_zones import Entry, Zones, can_listen, is_served

if TYPE_CHECKING:
    from plugrun.api import Network

__all__ = ["Entry", "Resolver"]

_TIMEOUT = 0.5  # seconds for an answer, twice: it takes milliseconds
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Resolver:
    """The resolver of all networks of one driver.

    :param directory: for its files; made when first needed. What another boot left there counts for nothing.
    """

    reason = ""
    """Why :meth:`add` answered ``False``, and what would help."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._zones = Zones(directory)
        self._open = Daemon(self._zones.open, forwards=True)
        self._internal = Daemon(self._zones.internal, forwards=False)

    def add(self, network: Network, listen: Sequence[str], entry: Entry) -> bool:
        """Have a container found by its names on a network.

        :param listen: addresses of the host on that network, at which containers ask.
        :param entry: has an address; what DNS cannot ask for among its names is left out.
        :return: whether all of ``listen`` answer for it now; if not, nothing is left of it.
        :raises InvalidArgument: a name has a character that none may have, or an address is none.
        """
        names = tuple(name for name in entry.names if dns_query.fits(name)) or (entry.container_id[:12],)
        entry = entry._replace(names=names)
        program = find_program()
        if program is None:
            self.reason = "no resolver is installed: apt-get install aardvark-dns"
            return False
        with self._changing():
            self.reason = self._why_not(network, listen)
            if self.reason:
                return False
            self._zones.put(network.id, ",".join(listen), entry, internal=network.internal)
            self._serve(self._daemon(network), program, listen, entry)
        if not self.reason and not _answers(listen, entry):
            self._revive(self._daemon(network), program, listen, entry)
        if self.reason:
            self.remove(network.id, entry.container_id)
        return not self.reason

    def remove(self, network_id: str, container_id: str) -> None:
        """Forget a container on a network. Idempotent; the resolver ends with the last one."""
        if not self._zones.has(network_id, container_id):
            return
        with self._changing():
            self._zones.drop(network_id, container_id)
            self._settle()

    def gc(self, valid: frozenset[str]) -> None:
        """Forget the containers that are not in ``valid``, and end a resolver that nobody needs."""
        if not self._directory.is_dir():
            return
        with self._changing():
            self._zones.keep(valid)
            self._settle()

    # --- With the lock held ---------------------------------------------------------------------------------------

    def _daemon(self, network: Network) -> Daemon:
        return self._internal if network.internal else self._open

    def _why_not(self, network: Network, listen: Sequence[str]) -> str:
        """Say why nobody can listen for a network that is not served yet, or nothing."""
        if self._zones.has(network.id):
            return ""
        deadline = time.monotonic() + _TIMEOUT
        for address in listen:
            while (number := can_listen(address)) == errno.EADDRINUSE and time.monotonic() < deadline:
                if not (self._open.reload() or self._internal.reload()):
                    break  # so it is not ours, which may be just about to leave
                time.sleep(0.005)
            if number == errno.EADDRINUSE:
                return f"another program listens at port 53 of {address}; see which: ss -lnup 'sport = 53'"
            if number:
                return f"nobody can listen at port 53 of {address}: {os.strerror(number)}"
        return ""

    def _serve(self, daemon: Daemon, program: str, listen: Sequence[str], entry: Entry) -> None:
        """Have the processes read what changed; ``daemon`` is started if it is not there."""
        if self._zones.shadow() and daemon is self._internal:
            self._open.reload()
        if not daemon.reload():
            self.reason = daemon.start(program)
            if not self.reason:
                _answers(listen, entry)  # before it does, the next SIGHUP might end it

    def _settle(self) -> None:
        """Have the processes read what is left, and end those for which nothing is."""
        self._zones.shadow()
        for daemon, config in ((self._open, self._zones.open), (self._internal, self._zones.internal)):
            if not is_served(config):
                daemon.stop()
            elif not daemon.reload() and (program := find_program()):
                daemon.start(program)

    # --- Without --------------------------------------------------------------------------------------------------

    def _revive(self, daemon: Daemon, program: str, listen: Sequence[str], entry: Entry) -> None:
        """Start the process anew, if nobody listens: it has ended, or missed that an address was gone for a while."""
        with self._changing():
            if any(can_listen(address) != errno.EADDRINUSE for address in listen):
                daemon.stop()
                self.reason = daemon.start(program)
        if not self.reason and not _answers(listen, entry):
            self.reason = f"{program} does not answer at port 53 of {' and '.join(listen)}"

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock: flock(2), which ends with its holder. Forget first what another boot left."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._zones.make()
            boot = Path(_BOOT_ID).read_bytes()
            if os.pread(descriptor, len(boot) + 1, 0) != boot:
                self._zones.clear()
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, boot, 0)
            yield
        finally:
            os.close(descriptor)


def _answers(listen: Sequence[str], entry: Entry) -> bool:
    address = entry.ip or entry.ip6
    assert address is not None, "an endpoint has an address"
    deadline = time.monotonic() + _TIMEOUT
    name = entry.names[0].lower()
    return all(dns_query.answers(server, name, address, deadline - time.monotonic()) for server in listen)
