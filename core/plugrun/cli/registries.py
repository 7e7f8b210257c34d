"""What the commands that talk to registries share: connections, and names of registries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.images import reference

if TYPE_CHECKING:
    from plugrun.registry.client import Transport
    from plugrun.registry.endpoint import Credential


@contextlib.contextmanager
def connections(
    notice: Callable[[str], None], credentials: Callable[[str], Credential | None] | None = None
) -> Iterator[Transport]:
    """Open the connections of one command.

    :param notice: told one line about what takes longer.
    :param credentials: returns the credential for a registry; what ``plugrun login`` stored if not given.
    """
    from plugrun.registry.client import Transport
    from plugrun.registry.credentials import CredentialStore

    transport = Transport(credentials=credentials or CredentialStore().get, notice=notice)
    try:
        yield transport
    finally:
        transport.close()


def registry_name(server: str) -> str:
    """Read the name of a registry as users type it, or copy it from elsewhere: ``https://HOST:PORT/v2/``.

    :raises InvalidArgument: it is none.
    """
    from plugrun.registry.credentials import registry_of

    found = registry_of(server)
    try:
        fits = reference.parse(f"{found}/x/x").registry == found
    except InvalidArgument:
        fits = False
    if not fits:
        raise InvalidArgument(f"{server!a} is no registry", hint="write HOST[:PORT]; docker.io is Docker Hub")
    return found
