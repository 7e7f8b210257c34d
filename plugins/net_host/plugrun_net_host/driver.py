"""The host network driver: the container sees the network of whoever started it."""

from __future__ import annotations

from plugrun.api import Attachment, Host, InvalidArgument, NamespacePlan, NetResult


class HostDriver:
    """Does nothing, on purpose: there is no endpoint to make, check or remove."""

    def namespace(self, target: str | None) -> NamespacePlan:
        """Stay in the caller's namespace.

        :raises InvalidArgument: there is nothing to name.
        """
        if target is not None:
            raise InvalidArgument(f"the host network takes no target, got {target!r}", hint="use --net host")
        return Host()

    def setup(self, at: Attachment) -> NetResult:  # noqa: ARG002 - the interface of NetworkDriver
        """Answer that the driver gave no address: the host's are not the container's own."""
        return NetResult()

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        """Do nothing."""

    def check(self, at: Attachment, prev: NetResult) -> None:
        """Do nothing: no state can drift."""

    def gc(self, valid: frozenset[str]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
