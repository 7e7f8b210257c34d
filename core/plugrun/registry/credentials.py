"""Credentials of registries, where docker and podman keep them: the file that ``docker login`` writes.

Read are ``$DOCKER_CONFIG/config.json``, or ``~/.docker/config.json``, and then podman's ``containers-auth.json(5)``;
written is the first. A file names credential helpers that keep the secrets, or has them itself, encoded and not
encrypted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun.errors import InvalidArgument
from plugrun.images.reference import DEFAULT_REGISTRY
from plugrun.registry import authfile
from plugrun.registry.endpoint import Credential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plugrun.images.document import Document
    from plugrun.registry.helper import Helper

_HUB_KEY = "https://index.docker.io/v1/"  # as Docker has called its own registry since 2013
_HUB_HOST = "index.docker.io"
_API_PATHS = {"", "v1", "v2"}


class CredentialStore:
    """What this user can show to registries. Each call reads anew.

    Every method raises :class:`InvalidArgument` when a file or an entry in it is wrong, :class:`Unavailable` when it
    cannot be read or written or a helper is missing, and :class:`DriverError` when a helper fails.

    :ivar file: where credentials are written.
    """

    def __init__(self) -> None:
        directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
        self.file = Path(directory).absolute() / "config.json"

    def get(self, registry: str) -> Credential | None:
        """Return the credential for a registry, of exactly that name.

        :param registry: host and optional port, as in a reference.
        """
        return next((found for path in (self.file, *_podman_files()) if (found := _get(path, registry))), None)

    def store(self, registry: str, credential: Credential) -> bool:
        """Keep a credential, in place of what there was.

        :return: whether a credential helper keeps it; else it is in :attr:`file`, not encrypted.
        """
        helper = _helper(authfile.read(self.file), registry)
        if helper is not None:
            helper.store(_key(registry), credential)
        entry = {} if helper else _encode(credential)
        with authfile.changing(self.file) as content:
            _remove(content, registry)
            # An empty entry tells docker that a helper has it.
            content["auths"] = {**(content.get("auths") or {}), _key(registry): entry}
        return helper is not None

    def erase(self, registry: str) -> bool:
        """Forget the credential for a registry; return whether there was one. What podman keeps stays."""
        content = authfile.read(self.file)
        helper = _helper(content, registry)
        kept = helper is not None and helper.get(_key(registry)) is not None
        if helper is not None and kept:
            helper.erase(_key(registry))
        if not _remove(content.values, registry):
            return kept
        with authfile.changing(self.file) as changed:
            _remove(changed, registry)
        return True


def podman_file(registry: str) -> Path | None:
    """Return the file in which podman keeps a credential for a registry, if it does."""
    return next((path for path in _podman_files() if _get(path, registry)), None)


def _podman_files() -> Iterator[Path]:
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    yield Path(runtime, "containers/auth.json") if runtime else Path(f"/run/containers/{os.getuid()}/auth.json")


def _get(path: Path, registry: str) -> Credential | None:
    content = authfile.read(path)
    if (helper := _helper(content, registry)) is not None:
        return helper.get(_key(registry))
    auths = content.child("auths")
    if auths is None:
        return None
    # Docker's own spelling before any other.
    for key in sorted(_keys(auths.values, registry), key=lambda key: key != _key(registry)):
        entry = auths.child(key)
        if entry is not None and (found := _decode(entry)):
            return found
    return None


def _helper(content: Document, registry: str) -> Helper | None:
    named = content.text_map("credHelpers")
    name = next((named[key] for key in _keys(named, registry)), content.text("credsStore"))
    if not name:
        return None
    from plugrun.registry.helper import Helper

    return Helper(name, content.what)


def _key(registry: str) -> str:
    """Return what Docker keeps a registry's credential under."""
    return _HUB_KEY if registry == DEFAULT_REGISTRY else registry


def _keys(table: Iterable[str], registry: str) -> list[str]:
    """Return the keys that mean a registry."""
    return [key for key in table if _registry(key) == registry]


def _registry(key: str) -> str:
    """Return the registry that a key means; one that podman keeps for a part of a registry means none."""
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    if path.rstrip("/") not in _API_PATHS:
        return ""
    return DEFAULT_REGISTRY if host == _HUB_HOST else host


def _remove(content: dict[str, Any], registry: str) -> bool:
    auths = content.get("auths") or {}
    found = _keys(auths, registry)
    for key in found:
        del auths[key]
    return bool(found)


def _encode(credential: Credential) -> dict[str, str]:
    """Return a credential as an entry of the file.

    :raises InvalidArgument: the user name has a colon, which ends it there and in HTTP's basic authentication.
    """
    import binascii

    if ":" in credential.username:
        raise InvalidArgument(f"the user name {credential.username!a} has a colon, which no user name may have")
    pair = f"{credential.username}:{credential.password}".encode()
    token = {"identitytoken": credential.identity_token} if credential.identity_token else {}
    return {"auth": binascii.b2a_base64(pair, newline=False).decode(), **token}


def _decode(entry: Document) -> Credential | None:
    """Return the credential of an entry; ``None`` if it has none, as where a helper keeps it."""
    username, password, token = entry.text("username"), entry.text("password"), entry.text("identitytoken")
    if auth := entry.text("auth"):
        import binascii

        try:
            username, colon, password = binascii.a2b_base64(auth, strict_mode=True).decode().partition(":")
        except ValueError:  # binascii.Error and UnicodeDecodeError are ValueErrors
            colon = ""
        if not colon:
            raise entry.error("auth is not USER:PASSWORD in base64")
        password = password.rstrip("\0")
    return Credential(username, password, token) if password or token else None
