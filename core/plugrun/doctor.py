"""Doctor: what the engine needs of the machine, as a list of findings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from plugrun.errors import Unavailable
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from plugrun.engine import Engine


class Check(NamedTuple):
    """One finding.

    :param mark: ``ok``, ``warn`` (something is limited) or ``fail`` (containers cannot run).
    :param what: what was looked at.
    :param finding: what was found, and what would help.
    """

    mark: str
    what: str
    finding: str


def checks(engine: Engine) -> Iterator[Check]:
    """Look at everything, cheapest first. Changes nothing."""
    yield from _runtimes()
    yield from _programs()
    yield from _drivers(engine)
    yield from _security()
    yield from _leftovers(engine)
    yield from _endpoints(engine)


def _runtimes() -> Iterator[Check]:
    from plugrun.oci import runtime

    usable = False
    for one in runtime.survey():
        if one.reason is not None:
            yield Check("warn", f"runtime {one.name}", one.reason)
        else:
            usable = True
            advice = runtime.advice(one)
            yield Check("warn" if advice else "ok", f"runtime {one.name}", advice or f"{one.path}, {one.version}")
    if not usable:
        yield Check("fail", "runtime", "no usable OCI runtime: apt-get install crun, or runc")


def _programs() -> Iterator[Check]:
    from plugrun import programs

    monitor = programs.find("conmon")
    yield Check("ok", "monitor", monitor) if monitor else Check("fail", "monitor", "no conmon: apt-get install conmon")
    init = programs.find("catatonit") or programs.find("tini")
    yield (
        Check("ok", "init", init)
        if init
        else Check("warn", "init", "no program for --init: apt-get install catatonit, or tini")
    )


def _drivers(engine: Engine) -> Iterator[Check]:
    from plugrun.drivers import finding

    plugins, root = engine.plugins, engine.paths.root
    usable = {"storage": 0, "network": 0}
    for kind, declared in plugins.drivers():
        name = declared.spec.name
        reason = finding(kind, declared, root)
        usable[kind] += reason is None
        yield Check("warn" if reason else "ok", f"{kind} driver {name}", reason or declared.dist)
    for kind, count in usable.items():
        if not count:
            yield Check("fail", f"{kind} drivers", f"no usable {kind} driver is installed")
    for rejected in plugins.rejected:
        yield Check("warn", f"plugin {rejected.name}", f"{rejected.dist} {rejected.version}: {rejected.reason}")


def _security() -> Iterator[Check]:
    if os.path.isdir("/sys/kernel/security/apparmor"):
        yield Check("warn", "AppArmor", "this kernel has it; plugrun does not use it yet")
    else:
        yield Check("ok", "AppArmor", "not in this kernel; seccomp and capabilities confine containers")


def _leftovers(engine: Engine) -> Iterator[Check]:
    """Mounts, namespaces and snapshots that belong to no container."""
    from functools import partial

    from plugrun import mounts, used_storage
    from plugrun.orphans import orphans

    try:
        known = {record.id for record in engine.containers.all()}
    except Unavailable as error:
        yield Check("fail", "state database", str(error))
        return
    run = engine.paths.run_root
    stray = [
        point
        for point in mounts.mount_points()
        if point.startswith((f"{run}/containers/", f"{run}/netns/"))
        and point.removeprefix(f"{run}/").split("/")[1] not in known
    ]
    for point in stray:
        yield Check("warn", "leftover mount", f"{point} belongs to no container: umount it")
    each = used_storage.each(engine, partial(orphans, engine), "could not be looked into", mount=False)
    left = sum(map(len, each.values()))
    if left:
        what = "1 snapshot belongs" if left == 1 else f"{left} snapshots belong"
        yield Check("warn", "leftover snapshots", f"{what} to no container or volume: plugrun image prune")
    if not stray and not left:
        yield Check("ok", "leftovers", "none")


def _endpoints(engine: Engine) -> Iterator[Check]:
    from plugrun import endpoint_checks

    try:
        yield from endpoint_checks.checks(engine)
    except Unavailable as error:
        yield Check("fail", "endpoints", str(error))
