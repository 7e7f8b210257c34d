"""The OCI bundle of one container: from its record and its mounted root file system to a runtime specification."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from plugrun import programs
from plugrun.errors import Unavailable
from plugrun.lifecycle import naming
from plugrun.oci import resources, rootfs, user
from plugrun.oci.spec import SpecInputs, build_spec
from plugrun.rootfd import RootDir

if TYPE_CHECKING:
    from plugrun.lifecycle.steps import Starting

_INIT_PROGRAMS = ("catatonit", "tini")


def specification(at: Starting) -> dict[str, Any]:
    """Check and prepare the mounted root file system, and return the content of ``config.json``.

    :raises FailedPrecondition: the image must not be started; says what in it is wrong.
    :raises InvalidArgument: the container's user, working directory or a mount makes no sense in this image.
    """
    from plugrun.engine import view

    engine, record = at.engine, at.record
    config = record.config._replace(binds=(*record.config.binds, *at.mounted))
    where = str(engine.paths.rootfs(record.id))
    files = naming.files(engine, record, at.netns)
    with RootDir.at(where) as root:
        identity = user.resolve(root, config.user)
        prepared = rootfs.prepare(root, config, files)
    inputs = SpecInputs(
        container_id=record.id,
        rootfs=where,
        identity=identity,
        netns=at.netns,
        own_netns=at.netns == str(engine.paths.netns(record.id)),
        etc_files=prepared.etc_files,
        binds=prepared.binds,
        tmpfs=prepared.tmpfs,
        init=_init_program() if config.init else None,
        cgroup_v2=os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
        hard_limits=resources.own_hard_limits(),
    )
    spec = build_spec(config._replace(workdir=prepared.workdir), inputs)
    engine.plugins.amend_spec(view(record), spec)
    return spec


def _init_program() -> str:
    found = next(filter(None, map(programs.find, _INIT_PROGRAMS)), None)
    if found is None:
        raise Unavailable("--init needs catatonit or tini, and neither is installed", hint="apt-get install catatonit")
    return found
