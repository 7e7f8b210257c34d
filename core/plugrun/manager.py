"""The installed plugins behind typed methods; nothing else in the engine touches pluggy's untyped hooks.

There is no global manager: :func:`load` builds one, a test builds its own. A plugin that cannot be used is recorded as
:class:`Rejected` and the others work on (llm#1280 is what happens otherwise). ``PLUGRUN_STRICT=1`` raises instead, for
plugin authors who want the traceback.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from plugrun import entrypoints, hookspecs
from plugrun.api import ContainerDraft, ContainerView, DriverSpec, Event, NetworkDriver, NetworkRequest, StorageDriver
from plugrun.drivers import Declared, Rejected, describe, open_driver, problem, select
from plugrun.errors import DriverError, InvalidArgument, PlugrunError
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    import typer

__all__ = ["Declared", "Plugins", "Rejected", "load"]


class Plugins:
    """Declared drivers and announced events. Made by :func:`load`.

    :ivar storage: usable declarations of storage drivers by name; ``network`` likewise.
    :ivar rejected: what is installed and not used, in the order of names.
    :ivar warn: called with one line when a plugin fails at something that goes on without it.
    """

    def __init__(self, registry: _Registry, warn: Callable[[str], None]) -> None:
        self.storage: Mapping[str, Declared[StorageDriver]] = registry.declared("storage")
        self.network: Mapping[str, Declared[NetworkDriver]] = registry.declared("network")
        self.rejected: tuple[Rejected, ...] = tuple(sorted(registry.rejected, key=lambda one: (one.name, one.dist)))
        self.warn = warn
        self._registry = registry

    def drivers(self) -> Iterator[tuple[str, Declared[Any]]]:
        """Yield every declared driver with its kind, ``"storage"`` before ``"network"``, each by name."""
        yield from (("storage", declared) for declared in self.storage.values())
        yield from (("network", declared) for declared in self.network.values())

    def select_storage(self, name: str | None, root: Path) -> Declared[StorageDriver]:
        """Choose a storage driver that works here.

        :param name: ``None`` for the default: the usable one of highest priority, first by name among equals.
        :param root: the engine's persistent directory.
        :raises NotFound: no installed plugin declares it; the hint lists what is installed and why it is not usable.
        :raises FailedPrecondition: its declaration was rejected; the message says why.
        :raises Unavailable: it does not work here; the message is its probe's.
        """
        return select("storage", name, self.storage, self.rejected, root)

    def declared_storage(self, name: str, root: Path) -> Declared[StorageDriver]:
        """Return a storage driver whether it works here or not.

        :raises NotFound: as :meth:`select_storage`.
        :raises FailedPrecondition: as :meth:`select_storage`.
        """
        if name not in self.storage:
            return self.select_storage(name, root)  # raises
        return self.storage[name]

    def select_network(self, name: str | None, root: Path) -> Declared[NetworkDriver]:
        """Choose a network driver that works here; everything as in :meth:`select_storage`."""
        return select("network", name, self.network, self.rejected, root)

    def open_storage(self, declared: Declared[StorageDriver], root: Path, options: Mapping[str, str]) -> StorageDriver:
        """Make a storage driver with the user's ``--storage-opt`` options.

        :param root: the driver's own directory is made below it, mode 0700.
        :raises InvalidArgument: an option is unknown or wrong; the message quotes key and value.
        :raises PlugrunError: the driver cannot be made.
        """
        # mypy takes a Protocol for abstract, but only isinstance() is asked of it
        return open_driver("storage", declared, root, options, StorageDriver)  # type: ignore[type-abstract]

    def open_network(self, declared: Declared[NetworkDriver], root: Path, options: Mapping[str, str]) -> NetworkDriver:
        """Make a network driver with the user's ``--net-opt`` options; raises as :meth:`open_storage`."""
        return open_driver("network", declared, root, options, NetworkDriver)  # type: ignore[type-abstract]

    def parse_network(self, value: str) -> NetworkRequest:
        """Find out what a ``--net`` value means: a driver's name, or whatever a plugin claims.

        The driver answered need not be declared: :meth:`select_network` says so with the names of those that are.

        :raises InvalidArgument: empty, or the plugin that claims it finds it wrong.
        """
        if not value:
            raise InvalidArgument("the network is empty", hint="name a network driver, such as --net none")
        if value not in self.network:
            for impl in self._registry.implementations("plugrun_parse_network"):
                answer = impl.call(value=value)
                if isinstance(answer, NetworkRequest):
                    return answer
                if answer is not None:
                    raise DriverError(f"{impl} answered {answer!r} instead of a NetworkRequest for {value!r}")
        return NetworkRequest(value)

    def prepare_config(self, draft: ContainerDraft) -> None:
        """Let plugins edit ``draft``.

        :raises PlugrunError: a plugin does not want this container, or failed.
        """
        for impl in self._registry.implementations("plugrun_prepare_config"):
            impl.call(draft=draft)

    def amend_spec(self, container: ContainerView, spec: dict[str, Any]) -> None:
        """Let plugins edit the OCI configuration ``spec``; raises as :meth:`prepare_config`."""
        for impl in self._registry.implementations("plugrun_amend_spec"):
            impl.call(container=container, spec=spec)

    def notify(self, event: Event, container: ContainerView) -> None:
        """Tell every plugin what happened; one that fails is a warning."""
        for impl in self._registry.implementations("plugrun_container_event"):
            self._try(impl, event=event, container=container)

    def add_commands(self, app: typer.Typer) -> None:
        """Let plugins add commands to ``app``; one that fails is a warning."""
        for impl in self._registry.implementations("plugrun_commands"):
            self._try(impl, app=app)

    def _try(self, impl: _Implementation, **arguments: object) -> None:
        try:
            impl.call(**arguments)
        except PlugrunError as error:
            self.warn(str(error))


def load(
    plugins: Sequence[tuple[str, object]] | None = None,
    *,
    group: str | None = "plugrun",
    disabled: Collection[str] = (),
    warn: Callable[[str], None] | None = None,
) -> Plugins:
    """Load plugins; what is wrong with one is in :attr:`Plugins.rejected`.

    :param plugins: ``(name, module or object)`` pairs besides the installed ones.
    :param group: entry-point group of the installed ones; ``None`` for none of them.
    :param disabled: entry-point names that are not even imported.
    :param warn: see :class:`Plugins`; :func:`warnings.warn` if not given.
    :raises Exception: ``PLUGRUN_STRICT=1`` is set and a plugin is wrong: what is wrong.
    """
    registry = _Registry(strict=os.environ.get("PLUGRUN_STRICT") == "1")
    found: list[tuple[_Origin, Callable[[], object]]] = []
    for name, plugin in plugins or ():
        found.append((_Origin(name, "this process", ""), lambda plugin=plugin: plugin))  # type: ignore[misc]
    installed = entrypoints.find(group) if group else ()
    found.extend((_Origin(entry.name, entry.dist, entry.version), entry.load) for entry in installed)
    for origin, get in reversed(found):  # pluggy calls the last one registered first
        if origin.name in disabled:
            registry.reject(origin, "is disabled")
        else:
            registry.add(origin, get)
    registry.check_names()
    return Plugins(registry, warn or _warn)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


class _Origin(NamedTuple):
    """Where a plugin comes from."""

    name: str
    dist: str
    version: str


class _Implementation(NamedTuple):
    """One plugin's function for one hook."""

    hook: str
    origin: _Origin
    impl: pluggy.HookImpl

    def __str__(self) -> str:
        return f"{self.hook} of plugin {self.origin.name!r} ({self.origin.dist})"

    def call(self, **arguments: object) -> object:
        """Call it with those of ``arguments`` that it takes.

        :raises PlugrunError: as the plugin raised it, or a :class:`DriverError` that tells what else it raised.
        """
        try:
            return self.impl.function(*(arguments[name] for name in self.impl.argnames))
        except PlugrunError:
            raise
        except Exception as error:
            raise DriverError(f"{self} failed: {describe(error)}") from error


class _Registry:
    """A pluggy manager that remembers who is who, and what was rejected.

    Implementations are called one by one, not through pluggy's loop: that loop does not tell whose answer or whose
    exception it was (pluggy#253, #419). Pluggy still checks signatures and keeps the order.
    """

    def __init__(self, *, strict: bool) -> None:
        self.rejected: list[Rejected] = []
        self._strict = strict
        self._origins: dict[str, _Origin] = {}
        self._manager = pluggy.PluginManager("plugrun")
        self._manager.add_hookspecs(hookspecs)

    def reject(self, origin: _Origin, reason: str, *, driver: tuple[str, str] = ("", "")) -> None:
        """Record that a plugin, or its driver ``(kind, name)``, is not used."""
        kind, name = driver
        self.rejected.append(Rejected(name or origin.name, origin.dist, origin.version, reason, kind))

    def add(self, origin: _Origin, get: Callable[[], object]) -> None:
        """Import and register one plugin, or reject it and forget whatever it had registered."""
        key = f"{origin.dist}:{origin.name}"
        try:
            plugin = get()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - importing a third party's module may raise anything
            self._fail(origin, error, f"cannot be imported: {describe(error)}")
            return
        self._origins[key] = origin
        try:
            self._manager.register(plugin, key)
            self._check(plugin)
        except Exception as error:  # noqa: BLE001 - register() reads every attribute of a third party's object
            self._manager.unregister(name=key)
            self._fail(origin, error, f"does not fit the hooks: {describe(error)}")

    def check_names(self) -> None:
        """Reject every plugin that implements a hook nobody calls, which is a slip of the pen or a newer API."""
        while True:
            try:
                return self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                key = str(self._manager.get_name(error.plugin))
                self._manager.unregister(name=key)
                self._fail(self._origins[key], error, f"does not fit the hooks: {describe(error)}")

    def implementations(self, hook: str) -> Iterator[_Implementation]:
        """Yield the implementations of a hook in calling order."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for impl in reversed(caller.get_hookimpls()):
            yield _Implementation(hook, self._origins[impl.plugin_name], impl)

    def declared(self, kind: str) -> dict[str, Declared[Any]]:
        """Return the drivers of one kind by name, without those that are wrong or declared twice."""
        found: dict[str, list[Declared[Any]]] = {}
        for impl in self.implementations(f"plugrun_{kind}_drivers"):
            for spec in self._specs(impl, kind):
                origin = impl.origin
                one = Declared(spec, origin.name, origin.dist, origin.version)
                found.setdefault(spec.name, []).append(one)
        for name in [name for name, several in found.items() if len(several) > 1]:
            several = found.pop(name)
            both = " and ".join(f"{one.dist} {one.version}".rstrip() for one in several)
            for one in several:
                origin = _Origin(one.plugin, one.dist, one.version)
                reason = f"is declared by both {both}"
                self._fail(origin, DriverError(f"{kind} driver {name!r} {reason}"), reason, driver=(kind, name))
        return {name: one for name, (one,) in sorted(found.items())}

    def _specs(self, impl: _Implementation, kind: str) -> Iterator[DriverSpec[Any]]:
        try:
            specs: list[object] = list(impl.call())  # type: ignore[call-overload]
        except Exception as error:  # noqa: BLE001 - also what is not iterable, and a generator that raises
            self._fail(impl.origin, error, f"cannot declare its {kind} drivers: {describe(error)}", driver=(kind, ""))
            return
        for spec in specs:
            if wrong := problem(spec):
                name = spec.name if isinstance(spec, DriverSpec) and isinstance(spec.name, str) else ""
                self._fail(impl.origin, DriverError(f"a {kind} driver of {impl} {wrong}"), wrong, driver=(kind, name))
            elif isinstance(spec, DriverSpec):
                yield spec

    def _check(self, plugin: object) -> None:
        callers = self._manager.get_hookcallers(plugin)
        if not callers:
            raise TypeError("nothing in it is marked with plugrun.api.hookimpl")
        for caller in callers:
            for impl in caller.get_hookimpls():
                if impl.plugin is plugin and (impl.wrapper or impl.hookwrapper):
                    raise TypeError(f"{caller.name} is wrapped, and API 1.0 has no hook wrappers")

    def _fail(self, origin: _Origin, error: BaseException, reason: str, *, driver: tuple[str, str] = ("", "")) -> None:
        if self._strict:
            raise error
        self.reject(origin, reason, driver=driver)
