"""The none network driver: the container is alone with its loopback interface."""

from __future__ import annotations

import os

from plugrun.api import Attachment, Drift, InvalidArgument, NamespacePlan, NetResult, New


class IsolatedDriver:
    """Needs nothing but the namespace, which the core makes, brings ``lo`` up in, and deletes."""

    def namespace(self, target: str | None) -> NamespacePlan:
        """Ask for a namespace of the container's own.

        :raises InvalidArgument: there is nothing to name.
        """
        if target is not None:
            raise InvalidArgument(f"the none network takes no target, got {target!r}", hint="use --net none")
        return New()

    def setup(self, at: Attachment) -> NetResult:  # noqa: ARG002 - the interface of NetworkDriver
        """Answer that there is no address."""
        return NetResult()

    def teardown(self, at: Attachment, prev: NetResult | None) -> None:
        """Do nothing: the namespace takes its ``lo`` along."""

    def check(self, at: Attachment, prev: NetResult) -> None:  # noqa: ARG002 - the interface of NetworkDriver
        """See that the namespace is still pinned.

        :raises Drift: it is not.
        """
        if at.netns is None or not os.path.exists(at.netns):
            raise Drift("a network namespace", f"none at {at.netns}" if at.netns else "none")

    def gc(self, valid: frozenset[str]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
