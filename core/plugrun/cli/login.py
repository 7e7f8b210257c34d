"""``plugrun login`` and ``logout``: as whom registries are asked."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

from plugrun import terminal
from plugrun.cli import text
from plugrun.cli.context import Globals  # noqa: TC001 - read when the command is called
from plugrun.cli.live import warn
from plugrun.cli.params import argument, option
from plugrun.cli.questions import ask
from plugrun.cli.registries import registry_name
from plugrun.errors import Denied, FailedPrecondition, InvalidArgument
from plugrun.images.reference import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from plugrun.registry.endpoint import Credential, Endpoint

_MAX_PASSWORD = 64 << 10  # bytes
_Server = Annotated[str, argument("[SERVER]")]


def login(
    common: Globals,
    server: _Server = DEFAULT_REGISTRY,
    username: Annotated[str | None, option("--username", "-u", help="User name.", metavar="USER")] = None,
    password: Annotated[
        str | None,
        option(
            "--password", "-p", help="Password or access token; seen by all users of this host.", metavar="PASSWORD"
        ),
    ] = None,
    password_stdin: Annotated[bool, option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Log in to a registry: check a user name and a password, and keep them for later commands.

    SERVER is HOST[:PORT]; Docker Hub if not given.
    """
    del common
    from plugrun.registry import config
    from plugrun.registry.credentials import CredentialStore
    from plugrun.registry.endpoint import Credential

    registry = registry_name(server)
    endpoint = config.load().login_endpoint(registry)
    store = CredentialStore()
    if username is None and password is None and not password_stdin and (known := store.get(registry)):
        text.say("Authenticating with existing credentials...")
        if _is_accepted(endpoint, known):
            text.say("Login Succeeded")
            return
    credential = Credential(*_ask(username, password, password_stdin=password_stdin))
    _check(endpoint, credential)
    if not store.store(registry, credential):
        warn(f"the password is stored unencrypted in {store.file}; configure a credential helper to avoid that")
    text.say("Login Succeeded")


def logout(common: Globals, server: _Server = DEFAULT_REGISTRY) -> None:
    """Log out from a registry: forget the user name and the password.

    SERVER is HOST[:PORT]; Docker Hub if not given.
    """
    del common
    from plugrun.registry.credentials import CredentialStore, podman_file

    registry = registry_name(server)
    if CredentialStore().erase(registry):
        text.say(f"Removing login credentials for {registry}")
    else:
        text.say(f"Not logged in to {registry}")
    if kept := podman_file(registry):
        warn(f"credentials for {registry} are also in {kept}; remove them with podman logout {registry}")


def _ask(username: str | None, password: str | None, *, password_stdin: bool) -> tuple[str, str]:
    """Return user name and password: as given, from standard input, or asked for at the terminal."""
    if password_stdin:
        if password is not None:
            raise InvalidArgument("--password and --password-stdin exclude each other")
        if not username:
            raise InvalidArgument("--password-stdin needs --username")
        password = _read_password()
    elif password is not None:
        warn("a password on the command line is seen by all users of this host; use --password-stdin")
    elif not terminal.is_terminal(0):
        raise FailedPrecondition(
            "cannot ask for a password: standard input is not a terminal", hint="use --username and --password-stdin"
        )
    username = _checked("user name", username if username is not None else _prompt_name())
    return username, _checked("password", password if password is not None else _prompt_password())


def _checked(what: str, value: str) -> str:
    if not value:
        raise InvalidArgument(f"the {what} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"the {what} is not UTF-8") from None
    return value


def _prompt_name() -> str:
    if not terminal.is_terminal(0):
        raise FailedPrecondition("cannot ask for a user name: standard input is not a terminal", hint="use --username")
    return ask("Username: ", sys.stdout).strip()


def _prompt_password() -> str:
    import getpass

    try:
        return getpass.getpass("Password: ")
    except EOFError:
        return ""
    except KeyboardInterrupt:
        print(file=sys.stderr)  # getpass leaves the cursor behind its question
        raise


def _read_password() -> str:
    """Read standard input to its end; one line end there is not part of the password, as for Docker."""
    data = b""
    while chunk := os.read(0, _MAX_PASSWORD):
        data += chunk
        if len(data) > _MAX_PASSWORD:
            raise InvalidArgument("standard input is too long for a password")
    return data.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _is_accepted(endpoint: Endpoint, credential: Credential) -> bool:
    try:
        _check(endpoint, credential)
    except Denied as error:
        if not terminal.is_terminal(0):
            raise
        warn(f"login did not succeed: {error}")
        return False
    return True


def _check(endpoint: Endpoint, credential: Credential) -> None:
    from plugrun.registry.client import Repository
    from plugrun.registry.connections import connections

    with connections(warn, lambda _registry: credential) as transport:
        try:
            Repository(transport, endpoint).ping()
        except Denied as error:
            if error.hint and "plugrun login" in error.hint:
                error.hint = "check user name and password"
            raise
