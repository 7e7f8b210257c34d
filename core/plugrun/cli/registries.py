"""Names of registries, as users type them."""

from __future__ import annotations

from plugrun.errors import InvalidArgument
from plugrun.images import reference


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
