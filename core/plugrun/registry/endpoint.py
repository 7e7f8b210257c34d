"""Where a registry is asked, and as whom."""

from __future__ import annotations

from pathlib import Path

from plugrun.tuples import NamedTuple


class Endpoint(NamedTuple):
    """One place that has a repository: the registry itself, or a mirror of it.

    :param host: host and optional port to connect to, e.g. ``registry-1.docker.io`` or ``localhost:5000``.
    :param repository: the repository's path there.
    :param registry: the name its credentials are kept under, e.g. ``docker.io``; a mirror has its own.
    :param insecure: plain HTTP and unknown certificates are good enough.
    :param certificates: directories with ``*.crt`` to trust and ``*.cert`` with ``*.key`` to show, the first one that
        exists counts: the ``certs.d`` of docker and podman.
    """

    host: str
    repository: str
    registry: str
    insecure: bool = False
    certificates: tuple[Path, ...] = ()


class Credential(NamedTuple):
    """Who asks.

    :param identity_token: an OAuth2 refresh token instead of a password; then the user name may be empty.
    """

    username: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"  # never the secret: this may end in a log
