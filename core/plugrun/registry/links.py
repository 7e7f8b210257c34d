"""The ``Link`` header of a list that has more pages (RFC 8288; distribution-spec, "Listing Tags")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument
from plugrun.registry import origin

if TYPE_CHECKING:
    from urllib3.util import Url


def following(header: str | None, base: Url, what: str) -> Url | None:
    """Return where the next page is, ``None`` if there is none.

    :param base: where this page was.
    :param what: the list, for messages.
    :raises InvalidArgument: it is somewhere else than this page, or this page itself.
    """
    match = re.search(r'<([^<>]*)>[^<>]*;\s*rel="?next"?(?=[\s,;]|$)', header or "", re.IGNORECASE)
    if not match:
        return None
    target = origin.follow(base, match[1], f"the {what}")
    if origin.of(target) != origin.of(base):
        raise InvalidArgument(f"the {what} goes on at another host: {origin.hostname(target)}")
    if target.url == base.url:
        raise InvalidArgument(f"the {what} goes round in circles")
    return target
