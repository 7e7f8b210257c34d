"""The connections of one command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from plugrun.registry.client import Transport
from plugrun.registry.credentials import CredentialStore

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Credential


@contextlib.contextmanager
def connections(
    notice: Callable[[str], None], credentials: Callable[[str], Credential | None] | None = None
) -> Iterator[Transport]:
    """Open connections to registries for a block.

    :param notice: told one line about what takes longer.
    :param credentials: returns the credential for a registry; what ``plugrun login`` stored if not given.
    """
    transport = Transport(credentials=credentials or CredentialStore().get, notice=notice)
    try:
        yield transport
    finally:
        transport.close()
