"""What ``plugrun inspect`` shows of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plugrun.cli.image_names import digest_of, familiar, split

if TYPE_CHECKING:
    from plugrun.images.config import Healthcheck, ImageConfig
    from plugrun.images.image import Image


def details(image: Image) -> dict[str, Any]:
    """Return everything known about an image, in the shape and the words of ``docker image inspect``.

    Sizes are bytes of blobs as stored. What Docker has beside this belongs to how it stores images.
    """
    config = image.config
    return {
        "Id": image.id,
        "RepoTags": [familiar(name) for name in image.references if "@" not in name],
        "RepoDigests": sorted({f"{split(name)[0]}@{digest_of(image, name)}" for name in image.references}),
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "DockerVersion": "",
        "Author": config.author,
        "Config": _process(config),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
    }


def _process(config: ImageConfig) -> dict[str, Any]:
    return {
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Env": list(config.env),
        "Cmd": list(config.cmd),
        "Entrypoint": list(config.entrypoint),
        "Volumes": {path: {} for path in config.volumes},
        "WorkingDir": config.workdir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "Healthcheck": _healthcheck(config.healthcheck) if config.healthcheck else None,
    }


def _healthcheck(check: Healthcheck) -> dict[str, Any]:
    return {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
