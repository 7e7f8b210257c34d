"""Credential helpers: programs that keep secrets for Docker. The protocol is docker/docker-credential-helpers'.

A helper is ``docker-credential-NAME``; its argument says what to do, standard input about which registry. Unlike the
engine's own programs it is the caller's: found on the caller's ``PATH``, and run in the caller's environment, where it
finds the caller's keys.
"""

from __future__ import annotations

import json
import os
import re

from plugrun import programs
from plugrun.errors import DriverError, InvalidArgument, Unavailable
from plugrun.images import document
from plugrun.registry.endpoint import Credential

_NAME = r"[a-z0-9._-]+"
_NOT_FOUND = "credentials not found in native keychain"
_TOKEN_USER = "<token>"  # noqa: S105 - with this user name, the secret is an identity token
_TIMEOUT = 30.0
_SHOWN = 200  # characters of an error message


class Helper:
    """One installed helper.

    :param name: what comes after ``docker-credential-``.
    :param file: where it was named, for messages.
    :param timeout: seconds it may take.
    :raises InvalidArgument: ``name`` is no such name.
    :raises Unavailable: it is not installed.
    """

    def __init__(self, name: str, file: str, *, timeout: float = _TIMEOUT) -> None:
        if not re.fullmatch(_NAME, name):
            raise InvalidArgument(f"{file}: {name!a:.100} is no name of a credential helper", hint=f"mend {file}")
        self._program = f"docker-credential-{name}"
        self._timeout = timeout
        self._path = _find(self._program)
        if not self._path:
            raise Unavailable(
                f"credential helper {self._program} is not installed", hint=f"install it, or take it out of {file}"
            )

    def get(self, server: str) -> Credential | None:
        """Return what it has for a server, as ``docker login`` stored it.

        :raises DriverError: it failed.
        """
        answer = self._run("get", server)
        if answer is None:
            return None
        try:
            found = document.parse(answer.encode(), f"the answer of {self._program}")
            username, secret = found.text("Username"), found.text("Secret")
        except InvalidArgument as error:  # which quotes nothing of the answer: that may be a secret
            raise DriverError(str(error)) from None
        if username == _TOKEN_USER:
            return Credential("", "", secret)
        return Credential(username, secret) if secret else None

    def store(self, server: str, credential: Credential) -> None:
        """Have it keep a credential; raises as :meth:`get`."""
        token = credential.identity_token
        username, secret = (_TOKEN_USER, token) if token else (credential.username, credential.password)
        self._run("store", json.dumps({"ServerURL": server, "Username": username, "Secret": secret}))

    def erase(self, server: str) -> None:
        """Have it forget what it has for a server; raises as :meth:`get`."""
        self._run("erase", server)

    def _run(self, action: str, text: str) -> str | None:
        """Return what it answers; ``None`` if it has nothing for that server."""
        done = programs.run([self._path, action], input=text.encode(), env=os.environ, timeout=self._timeout)
        if done.code == 0:
            return done.stdout
        said = (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]
        if said == _NOT_FOUND:
            return None
        raise DriverError(
            f"credential helper {self._program} failed to {action}: {said[:_SHOWN] or f'exit code {done.code}'}"
        )


def _find(program: str) -> str:
    """Return a program's path, ``""`` if it is not on ``PATH``; relative directories there do not count."""
    for directory in os.environ.get("PATH", programs.SEARCH_PATH).split(":"):
        path = f"{directory}/{program}"
        if os.path.isabs(directory) and programs.is_executable(path):
            return path
    return ""
