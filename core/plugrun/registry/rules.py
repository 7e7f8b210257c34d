"""Files that say how registries are reached: containers-registries.conf(5), version 2, in plugrun's own places.

They are TOML with one ``[[registry]]`` a prefix of image names. What that format has for short names and for Go
programs means nothing here and is passed over; whatever else is unknown is an error, because a misspelt ``blocked``
would block nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrun.errors import InvalidArgument, NotFound, Unavailable
from plugrun.images import reference
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

WILDCARD = "*."
_PLACE = "HOST[:PORT][/PATH]"
_USES = {"": (True, True), "all": (True, True), "digest-only": (False, True), "tag-only": (True, False)}
_IGNORED = (
    "unqualified-search-registries",
    "short-name-mode",
    "aliases",
    "credential-helpers",
    "additional-layer-store-auth-helper",
)
_REGISTRY = ("prefix", "location", "insecure", "blocked", "mirror", "mirror-by-digest-only")
_MIRROR = ("location", "insecure", "pull-from-mirror")


class Mirror(NamedTuple):
    """A place that may have what a registry has.

    :param location: ``HOST[:PORT][/PATH]``, instead of the rule's prefix.
    :param insecure: as for :class:`Rule`.
    :param tags: it may be asked for a tag; ``digests`` likewise.
    """

    location: str
    insecure: bool | None = None
    tags: bool = True
    digests: bool = True


class Rule(NamedTuple):
    """One ``[[registry]]``: how images whose names begin with a prefix are reached.

    :param prefix: ``HOST[:PORT][/PATH]``, the host in lower case, or ``*.DOMAIN``.
    :param location: what stands in place of the prefix when images are read; ``""`` changes nothing.
    :param insecure: ``None`` when the file does not say.
    :param mirrors: in the order in which they are asked.
    :param file: where it was written, for messages.
    """

    prefix: str
    location: str = ""
    insecure: bool | None = None
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    file: str = ""


def read(files: Iterable[Path]) -> dict[str, Rule]:
    """Read files in order; a later one's rule replaces an earlier one's of the same prefix.

    :return: rules by prefix.
    :raises NotFound: there is no such file.
    :raises Unavailable: a file cannot be read.
    :raises InvalidArgument: a file is not of this format; names the file and the key.
    """
    found: dict[str, Rule] = {}
    for file in files:
        own: dict[str, Rule] = {}
        for table in _tables(_parse(file)):
            rule = _rule(table)
            if rule.prefix in own:
                raise InvalidArgument(f"{file}: the prefix {rule.prefix!a} appears twice")
            own[rule.prefix] = rule
        found |= own
    return found


class _Table(NamedTuple):
    """A TOML table, with typed access that names the file and the key in every error."""

    values: Mapping[str, Any]
    what: str
    file: str

    def get(self, key: str, kind: type, expected: str, default: Any) -> Any:
        """Return the value at ``key``."""
        value = self.values.get(key, default)
        if value is not default and not isinstance(value, kind):
            raise self.error(f"{key} is {value!a:.100}, not {expected}")
        return value

    def text(self, key: str) -> str:
        """Return the string at ``key``, ``""`` when absent."""
        return str(self.get(key, str, "text", ""))

    def flag(self, key: str) -> bool | None:
        """Return the boolean at ``key``."""
        flag: bool | None = self.get(key, bool, "true or false", None)
        return flag

    def children(self, key: str) -> list[_Table]:
        """Return the tables at ``key``."""
        items = self.get(key, list, f"[[{key}]] tables", [])
        if not all(isinstance(item, dict) for item in items):
            raise self.error(f"{key} holds something that is no table")
        return [_Table(item, f"[[{key}]] {number}", self.file) for number, item in enumerate(items, 1)]

    def place(self, key: str) -> str:
        """Return the ``HOST[:PORT][/PATH]`` at ``key``, the host in lower case; ``""`` when absent."""
        text = self.text(key).rstrip("/")
        if not text:
            return ""
        try:
            fits = reference.parse(f"{text}/x/x").name == f"{text}/x/x"
        except InvalidArgument:
            fits = False
        if not fits:
            raise self.error(
                f"{key} {text!a} is not {_PLACE}",
                hint="leave out scheme, tag and digest; to allow plain HTTP write: insecure = true",
            )
        host, slash, path = text.partition("/")
        return host.lower() + slash + path

    def check(self, known: Collection[str], ignored: Sequence[str] = ()) -> None:
        """Refuse keys that are not of this format."""
        for key in self.values:
            if key not in known and key not in ignored:
                raise self.error(f"unknown key {key!a}", hint=f"there are: {', '.join(known)}")

    def error(self, message: str, hint: str | None = None) -> InvalidArgument:
        """Return an error about this table, to be raised."""
        where = ": ".join(filter(None, (self.file, self.what)))
        return InvalidArgument(f"{where}: {message}", hint=hint)


def _parse(file: Path) -> _Table:
    import tomllib

    try:
        return _Table(tomllib.loads(file.read_bytes().decode()), "", str(file))
    except FileNotFoundError:
        raise NotFound(f"no such registry configuration: {file}") from None
    except OSError as error:
        raise Unavailable(f"cannot read the registry configuration {file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidArgument(f"{file} is not valid TOML: {error}") from None


def _tables(content: _Table) -> list[_Table]:
    if "registries" in content.values:
        raise content.error("this is version 1 of the format", hint="write [[registry]] tables")
    content.check(("registry",), _IGNORED)
    return content.children("registry")


def _rule(table: _Table) -> Rule:
    table.check(_REGISTRY)
    location = table.place("location")
    prefix = _prefix(table) or location
    if not prefix:
        raise table.error("has neither prefix nor location", hint=f'write: prefix = "{_PLACE}"')
    only_digests = bool(table.flag("mirror-by-digest-only"))
    return Rule(
        prefix=prefix,
        location="" if location == prefix else location,
        insecure=table.flag("insecure"),
        blocked=bool(table.flag("blocked")),
        mirrors=tuple(_mirror(item, only_digests=only_digests) for item in table.children("mirror")),
        file=table.file,
    )


def _prefix(table: _Table) -> str:
    text = table.text("prefix")
    if not text.startswith(WILDCARD):
        return table.place("prefix")
    domain = text.removeprefix(WILDCARD)
    try:
        # With a port, a name without a dot is a host too.
        fits = reference.parse(f"{domain}:1/x").registry == f"{domain}:1"
    except InvalidArgument:
        fits = False
    if not fits:
        raise table.error(f"prefix {text!a} is not {WILDCARD}DOMAIN", hint="a wildcard takes no port and no path")
    return text.lower()


def _mirror(table: _Table, *, only_digests: bool) -> Mirror:
    table.check(_MIRROR)
    use = table.text("pull-from-mirror")
    if use not in _USES:
        raise table.error(f"pull-from-mirror is {use!a}", hint="use all, digest-only or tag-only")
    if use and only_digests:
        raise table.error("pull-from-mirror and the registry's mirror-by-digest-only exclude each other")
    location = table.place("location")
    if not location:
        raise table.error("has no location", hint=f'write: location = "{_PLACE}"')
    tags, digests = _USES[use]
    return Mirror(location, table.flag("insecure"), tags and not only_digests, digests)
