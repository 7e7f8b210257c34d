"""Image references, ``[registry/]name[:tag][@digest]``: the grammar of the distribution project's reference package."""

from __future__ import annotations

import re

from plugrun.errors import InvalidArgument
from plugrun.images import digest as digests
from plugrun.tuples import NamedTuple

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_MAX_NAME = 255

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
_REGISTRY = rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_IMAGE_ID = r"[0-9a-f]{64}"


class Reference(NamedTuple):
    """A complete name of an image.

    :param registry: host and optional port, e.g. ``docker.io`` or ``localhost:5000``.
    :param repository: path within the registry, e.g. ``library/busybox``.
    :param tag: ``None`` only beside a digest.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    def canonical(self) -> str:
        """Return everything spelled out: ``docker.io/library/busybox:latest``."""
        return self.name + self._suffix()

    def familiar(self) -> str:
        """Return the shortest text that parses to this reference, its tag always included: ``busybox:latest``."""
        return self.familiar_name() + self._suffix()

    def familiar_name(self) -> str:
        """Return the shortest text for :attr:`name`: ``busybox``."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        short = self.repository.removeprefix(_OFFICIAL)
        if "/" not in short:
            return short
        return self.name if _has_registry(self.repository.partition("/")[0]) else self.repository

    def tagged(self, tag: str) -> Reference:
        """Return the reference of another tag of the same repository.

        :raises InvalidArgument: ``tag`` can be none.
        """
        _check(f"{self.name}:{tag}", self.registry, self.repository, tag)
        return self._replace(tag=tag, digest=None)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Read a reference as users type it; the registry defaults to Docker Hub and the tag to ``latest``.

    :raises InvalidArgument: it does not fit the grammar; says which part and why.
    """
    rest, at, digest = text.partition("@")
    name, tag = _split_tag(rest)
    if at:
        digests.check(digest, f"digest of image reference {text!a}:")
    registry, repository = _split_registry(name)
    _check(text, registry, repository, tag)
    return Reference(registry, repository, tag or (None if at else DEFAULT_TAG), digest or None)


def _split_tag(text: str) -> tuple[str, str | None]:
    head, slash, last = text.rpartition("/")
    component, colon, tag = last.partition(":")
    if not slash and last.startswith("["):
        return text, None
    return head + slash + component, tag if colon else None


def _has_registry(first: str) -> bool:
    # A first component with a dot or a port, "localhost", or one with capitals, which no repository may have.
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if not slash or not _has_registry(first):
        registry, repository = DEFAULT_REGISTRY, name
    else:
        registry, repository = first, rest
    if registry == "index.docker.io":  # the name from before 2014
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = _OFFICIAL + repository
    return registry, repository


def _check(text: str, registry: str, repository: str, tag: str | None) -> None:
    if tag is not None and not re.fullmatch(_TAG, tag):
        raise invalid(text, f"the tag {tag!a} must be 1 to 128 of A-Z a-z 0-9 _ . - and not start with . or -")
    if not re.fullmatch(_REGISTRY, registry):
        if text.startswith(("http://", "https://", "docker://")):
            raise invalid(text, "a name has no scheme", hint=f"leave out {text.partition('//')[0]}//")
        raise invalid(text, f"{registry!a} is no host name")
    if not re.fullmatch(_REPOSITORY, repository):
        if repository != repository.lower() and re.fullmatch(_REPOSITORY, repository.lower()):
            lower = Reference(registry, repository.lower())
            raise invalid(text, "repository names are lower case", hint=f"write {lower.familiar_name()}")
        raise invalid(text, "a repository name is lower-case letters and digits, joined by single . _ - or /")
    if len(registry) + 1 + len(repository) > _MAX_NAME:
        raise invalid(text[:40] + "…", f"a name has at most {_MAX_NAME} characters")
    if re.fullmatch(_IMAGE_ID, repository.removeprefix(_OFFICIAL)):
        raise invalid(text, "64 hexadecimal digits are an image id, not a name")


def invalid(text: str, why: str, hint: str | None = None) -> InvalidArgument:
    """Return an error about a reference, to be raised."""
    return InvalidArgument(f"invalid image reference {text!a}: {why}", hint=hint)
