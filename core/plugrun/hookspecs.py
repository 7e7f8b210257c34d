"""Every hook a plugin may implement: seven, for good.

A plugin marks a function of the same name with :data:`plugrun.api.hookimpl`; it may take fewer of the arguments, never
others, and no default for any. Plugins are called in the alphabetical order of their entry points, unless one asks for
``tryfirst`` or ``trylast``. Hook wrappers are not part of API 1.0; a plugin with one is rejected.

Hooks declare, claim, shape and announce. They are not the way a driver does its work: the core calls drivers directly,
as typed objects, because a chain of hooks stops at its first exception and cannot promise a teardown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import typer

    from plugrun.api import (
        ContainerDraft,
        ContainerView,
        DriverSpec,
        Event,
        NetworkDriver,
        NetworkRequest,
        StorageDriver,
    )

hookspec = pluggy.HookspecMarker("plugrun")


# --- Declare: what a plugin brings -------------------------------------------------------------------------------


@hookspec
def plugrun_storage_drivers() -> Iterable[DriverSpec[StorageDriver]]:  # type: ignore[empty-body]
    """Declare the storage drivers of this plugin.

    Called once by every command that needs a driver, before anything is probed or opened. It must be pure and quick: no
    system access, no import of the driver's module (the spec's ``factory`` does that).

    :return: any number of specs. A name that another plugin declares too is refused, and the refusal names both
        distributions.

    An exception, or a spec with an invalid name or API version, loses those drivers only; ``plugrun plugin ls`` shows
    why. Not called for commands that touch no driver, such as ``plugrun --version``.
    """


@hookspec
def plugrun_network_drivers() -> Iterable[DriverSpec[NetworkDriver]]:  # type: ignore[empty-body]
    """Declare the network drivers of this plugin.

    When it is called, what it may do, what it returns and what an exception does are as in
    :func:`plugrun_storage_drivers`. Not called for commands that touch no driver.
    """


@hookspec
def plugrun_commands(app: typer.Typer) -> None:
    """Add commands to the command line.

    Called once, when the command line is built and the first word is none of the engine's own commands, or help is
    asked for. Import what a command needs inside the command.

    :param app: the root application, to which commands and groups are added.

    An exception becomes a warning on standard error and loses this plugin's commands only. Not called by the Python
    API, and not by the engine's own commands.
    """


# --- Claim: the first answer that is not None wins ------------------------------------------------------------


@hookspec(firstresult=True)
def plugrun_parse_network(value: str) -> NetworkRequest | None:
    """Claim a ``--net`` value that is more than a driver's name, such as ``container:web``.

    Called while a container is created, for values that name no driver. On the command line, a value that begins with
    ``word=`` is Docker's long form, and what it names is asked for.

    :param value: the text after ``--net``, never empty.
    :return: which driver the value means and what else it says; ``None`` means "not mine", and the next plugin is
        asked. When all say ``None`` the user is told which drivers are installed.

    An exception aborts the command; raise :class:`plugrun.api.InvalidArgument` for a value that is yours and wrong. Not
    called when ``value`` is the name of a declared driver, so no plugin can take ``--net host`` from its driver.
    """


# --- Shape: the last word before something is made ---------------------------------------------------------------


@hookspec
def plugrun_prepare_config(draft: ContainerDraft) -> None:
    """Change a container's configuration before it is created.

    Called once per create, after the image's defaults and the user's flags are merged, before anything is recorded.

    :param draft: edit it in place; what the next plugin sees includes the edits.

    An exception aborts the create, and nothing is left behind. Not called when an existing container starts.
    """


@hookspec
def plugrun_amend_spec(container: ContainerView, spec: dict[str, Any]) -> None:
    """Take a last look at the OCI runtime configuration, and change it.

    Called at every start of a container, after the core has built the configuration and before the runtime reads it.

    :param container: whom it is for; a copy.
    :param spec: the content of ``config.json`` (OCI runtime-spec, config.md); edit it in place. The core checks nothing
        afterwards: a plugin that weakens the isolation here weakens it.

    An exception aborts the start, and everything done for it is undone. Not called for ``exec``.
    """


# --- Observe -------------------------------------------------------------------------------------------------------


@hookspec
def plugrun_container_event(event: Event, container: ContainerView) -> None:
    """Hear what happened to a container.

    Called after the fact is recorded, in the process that caused or noticed it. That process waits, so be quick.

    :param event: what happened.
    :param container: the container afterwards; a copy.

    An exception becomes a warning and changes nothing; the other plugins are still told. Not called for containers
    that were never recorded, nor for what happens inside a container.
    """
