"""Names in the store's index: which entry has which, and what giving one away leaves behind."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from plugrun.errors import InvalidArgument, NotFound
from plugrun.images import digest as digests
from plugrun.images import layout, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from plugrun.images.manifest import Descriptor
    from plugrun.images.reference import Reference

_OTHERS = 3  # tags that a message names


def name_of(entry: Descriptor) -> str:
    """Return the canonical reference of an entry, ``""`` when it has no name."""
    return entry.annotations.get(layout.REF_NAME, "")


def source_of(entry: Descriptor) -> str:
    """Return the digest that the registry has under an entry's name, ``""`` when it was not pulled."""
    return entry.annotations.get(layout.SOURCE_DIGEST, "")


def find(entries: Sequence[Descriptor], wanted: Reference) -> Descriptor | None:
    """Return the entry that a reference means; beside a digest, its tag does not matter.

    The digest may be of the index that an image was pulled through, too.
    """
    exact = wanted._replace(tag=None).canonical() if wanted.digest else wanted.canonical()
    found = next((entry for entry in entries if name_of(entry) == exact), None)
    if found is not None or wanted.digest is None:
        return found
    return next(
        (
            entry
            for entry in entries
            if wanted.digest in {entry.digest, source_of(entry)} and repository(entry) == wanted.name
        ),
        None,
    )


def find_by_id(
    entries: Sequence[Descriptor], name: str, prefix: str, id_of: Callable[[Descriptor], str]
) -> Descriptor | None:
    """Return the entry of which ``name`` is the digest, or whose image id begins with the digits ``prefix``.

    :param id_of: tells the image id of an entry.
    :raises InvalidArgument: several begin like that.
    """
    found: dict[str, Descriptor] = {}
    for entry in entries:
        if entry.digest == name:
            return entry
        image_id = id_of(entry)
        if digests.encoded(image_id).startswith(prefix):
            found.setdefault(image_id, entry)
    if len(found) > 1:
        raise InvalidArgument(
            f"image id {name} is ambiguous: {', '.join(digests.encoded(item)[:16] for item in sorted(found))}"
        )
    return next(iter(found.values()), None)


def absent(entries: Sequence[Descriptor], name: str) -> NotFound:
    """Return the error, to be raised, that ``name`` means no entry; it tells of other tags of the same repository."""
    try:
        wanted = reference.parse(name)
        tagged = [name_of(entry) for entry in entries if repository(entry) == wanted.name]
    except InvalidArgument:  # an image id
        tagged = []
    others = sorted({familiar(one) for one in tagged})
    hint = "plugrun images lists those there are; plugrun pull fetches one, plugrun load adds one from a file"
    if others:
        more = ", and more" if len(others) > _OTHERS else ""
        hint = f"there is {', '.join(others[:_OTHERS])}{more}; plugrun pull fetches others"
    return NotFound(f"no image {name!a}", hint=hint)


def references_of(entries: Sequence[Descriptor], manifest_digest: str) -> dict[str, str]:
    """Return the names of one image, each with its :func:`source_of`."""
    return {name_of(entry): source_of(entry) for entry in entries if entry.digest == manifest_digest and name_of(entry)}


class Names:
    """The entries of the store's index while names are given; each takes as long however many there are.

    :param entries: the index as it is. Where another tool gave a name twice, the first entry has it, as in
        :func:`find`.
    """

    def __init__(self, entries: Iterable[Descriptor]) -> None:
        self._entries: dict[tuple[str, str], Descriptor] = {}
        self._count: Counter[str] = Counter()  # entries with a digest
        for entry in entries:
            if _key(entry) not in self._entries:
                self._add(entry)
            else:
                self.keep(entry)

    def entries(self) -> list[Descriptor]:
        """Return the index as it has become, the newest last."""
        return list(self._entries.values())

    def give(self, name: str, image: Descriptor, *, source: str = "") -> Descriptor | None:
        """Give ``name`` to ``image``.

        :param name: a canonical reference.
        :param source: the digest that the registry has under the name, when it comes from there.
        :return: the image that had the name and now has none; it keeps an entry without a name.
        :raises InvalidArgument: the name contains the digest of another image.
        """
        pinned = name.partition("@")[2]
        if pinned and pinned not in {image.digest, source}:
            raise InvalidArgument(f"{name} names the image {pinned}, and cannot be given to {image.digest}")
        annotations = {layout.REF_NAME: name} | ({layout.SOURCE_DIGEST: source} if source else {})
        named, nameless = image._replace(annotations=annotations), image._replace(annotations={})
        previous = self._entries.get(_key(named))
        for outdated in (named, nameless):
            self.drop(outdated)
        self._add(named)
        if previous is None or self._count[previous.digest]:
            return None
        return self.keep(previous)

    def take(self, name: str) -> Descriptor | None:
        """Take a name from its image, which keeps an entry; return that without a name, ``None`` if nobody has it."""
        found = self._entries.get((name, ""))
        if found is None:
            return None
        self.drop(found)
        return self.keep(found)

    def keep(self, image: Descriptor) -> Descriptor:
        """Make sure that ``image`` has an entry, with or without a name; return one without."""
        nameless = image._replace(annotations={})
        if not self._count[image.digest]:
            self._add(nameless)
        return nameless

    def drop(self, entry: Descriptor) -> None:
        """Take away the entry of this name, or without a name of this image, if there is one."""
        found = self._entries.pop(_key(entry), None)
        if found is not None:
            self._count[found.digest] -= 1

    def _add(self, entry: Descriptor) -> None:
        self._entries[_key(entry)] = entry
        self._count[entry.digest] += 1


def _key(entry: Descriptor) -> tuple[str, str]:
    """Return what no two entries have in common: the name, or without one the digest."""
    name = name_of(entry)
    return name, "" if name else entry.digest


def familiar(name: str) -> str:
    """Return the shortest text for a name; one that another tool made up as it is."""
    try:
        return reference.parse(name).familiar()
    except InvalidArgument:
        return name


def repository(entry: Descriptor) -> str:
    """Return registry and repository of an entry's name, ``""`` when it has none."""
    try:
        return reference.parse(name_of(entry)).name
    except InvalidArgument:  # no name, or one that another tool made up
        return ""
