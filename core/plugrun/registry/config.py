"""How registries are reached: mirrors, other locations, insecure and blocked ones, certificates.

Read from ``/etc/plugrun/registries.conf`` and ``registries.conf.d/*.conf`` beside it, or from only the file that
``PLUGRUN_REGISTRIES_CONF`` names; without any, every registry is reached by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.images.reference import DEFAULT_REGISTRY
from plugrun.registry import rules
from plugrun.registry.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from plugrun.images.reference import Reference
    from plugrun.registry.rules import Rule

DIRECTORY = Path("/etc/plugrun")
FILE_VARIABLE = "PLUGRUN_REGISTRIES_CONF"
CERTIFICATES_VARIABLE = "PLUGRUN_CERTS_DIR"

_HUB = "registry-1.docker.io"  # where docker.io answers; docker.io itself is a web site
_CERTIFICATES = ("/etc/plugrun/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")


class RegistryConfig:
    """The rules in force, by prefix. Made by :func:`load`."""

    def __init__(self, found: Mapping[str, Rule]) -> None:
        self._rules = found

    def endpoints(self, ref: Reference) -> list[Endpoint]:
        """Return where an image may be read, in the order to ask: the mirrors, then the registry itself.

        :raises FailedPrecondition: its registry is blocked, or what is configured names no repository.
        """
        rule = self._allowed(ref.registry, ref.repository)
        if rule is None:
            return [_endpoint(ref.registry, ref.repository, insecure=None)]
        rest = _rest(rule, ref)
        asked = [one for one in rule.mirrors if (one.digests if ref.digest else one.tags)]
        places = [(one.location + rest, one.insecure) for one in asked]
        places.append((rule.location + rest if rule.location else ref.name, rule.insecure))
        return [_endpoint(*_split(place, rule), insecure=insecure) for place, insecure in places]

    def push_endpoint(self, ref: Reference) -> Endpoint:
        """Return where an image is written: the registry in its name, as the format has it, never another place.

        :raises FailedPrecondition: it is blocked.
        """
        return self._itself(ref.registry, ref.repository)

    def login_endpoint(self, registry: str) -> Endpoint:
        """Return where a registry checks credentials; the endpoint has no repository.

        :param registry: host and optional port, as in a reference.
        :raises FailedPrecondition: it is blocked.
        """
        return self._itself(registry, "")

    def _itself(self, registry: str, repository: str) -> Endpoint:
        rule = self._allowed(registry, repository)
        # Of a rule that leads elsewhere, "insecure" tells of that place.
        insecure = rule.insecure if rule is not None and not rule.location else None
        return _endpoint(registry, repository, insecure=insecure)

    def _allowed(self, registry: str, repository: str) -> Rule | None:
        """Return the rule whose prefix says most about a name."""
        name = f"{registry.lower()}/{repository}".rstrip("/")
        matching = (rule for rule in self._rules.values() if _length(rule.prefix, name) != (0, 0))
        found = max(matching, key=lambda rule: _length(rule.prefix, name), default=None)
        if found is not None and found.blocked:
            raise FailedPrecondition(
                f"registry {found.prefix} is blocked by {found.file}", hint="use another registry, or change that file"
            )
        return found


def load(directory: Path = DIRECTORY) -> RegistryConfig:
    """Read the configuration.

    :param directory: has ``registries.conf`` and ``registries.conf.d``; neither needs to exist.
    :raises NotFound: the file that ``PLUGRUN_REGISTRIES_CONF`` names does not exist.
    :raises InvalidArgument: a file is wrong; names the file and the key.
    :raises Unavailable: a file cannot be read.
    """
    return RegistryConfig(rules.read(_files(directory)))


def _files(directory: Path) -> Iterable[Path]:
    if only := os.environ.get(FILE_VARIABLE):
        if not os.path.isabs(only):
            raise InvalidArgument(f"{FILE_VARIABLE} is {only!a}, which is no absolute path")
        return [Path(only)]
    main = directory / "registries.conf"
    return [*([main] if main.exists() else ()), *sorted((directory / "registries.conf.d").glob("*.conf"))]


def _length(prefix: str, name: str) -> tuple[int, int]:
    """Return how much of a name without tag a prefix says, for comparison; nothing is ``(0, 0)``.

    As the format has it, a wildcard says as much as the whole host. A host that is written out says more, and so does
    the longer one of two wildcards.
    """
    if prefix.startswith(rules.WILDCARD):
        host = _hostname(name.partition("/")[0])
        return (len(host), len(prefix)) if host.endswith(prefix[1:]) else (0, 0)
    return (len(prefix), len(prefix) + 1) if name == prefix or name.startswith(f"{prefix}/") else (0, 0)


def _rest(rule: Rule, ref: Reference) -> str:
    """Return what of a name comes after the prefix: a slash and more, or nothing."""
    return f"/{ref.repository}" if rule.prefix.startswith(rules.WILDCARD) else ref.name[len(rule.prefix) :]


def _split(place: str, rule: Rule) -> tuple[str, str]:
    host, _, repository = place.partition("/")
    if not repository:
        raise FailedPrecondition(
            f"{rule.file} has {host} in place of {rule.prefix}, which is no repository",
            hint=f"write a location such as {host}/{rule.prefix.rpartition('/')[2]}",
        )
    return host, repository


def _endpoint(registry: str, repository: str, *, insecure: bool | None) -> Endpoint:
    return Endpoint(
        host=_HUB if registry == DEFAULT_REGISTRY else registry,
        repository=repository,
        registry=registry,
        insecure=_is_loopback(registry) if insecure is None else insecure,
        certificates=_certificates(registry),
    )


def _certificates(registry: str) -> tuple[Path, ...]:
    own = os.environ.get(CERTIFICATES_VARIABLE)
    return tuple(Path(place, registry) for place in (*([own] if own else ()), *_CERTIFICATES))


def _is_loopback(registry: str) -> bool:
    """Whether only this machine answers at an address: the registries that Docker takes for insecure unasked."""
    import ipaddress

    host = _hostname(registry).lower()
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(registry: str) -> str:
    """Return a registry's host without its port, and without the brackets of IPv6."""
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0]
