"""How long the other side may take: nobody can hold a command up by being slow."""

from __future__ import annotations

from plugrun.tuples import NamedTuple


class Limits(NamedTuple):
    """Times are in seconds.

    :param connect: for a connection and its TLS handshake.
    :param answer: until an answer's head is here, and until a small document is complete.
    :param upload: until an answer's head is here after a blob was sent, which the registry has to check and put away.
    :param window: in each of which at least ``pace`` bytes of a body must come.
    """

    connect: float = 10.0
    answer: float = 30.0
    upload: float = 300.0
    window: float = 30.0
    pace: int = 16 << 10
