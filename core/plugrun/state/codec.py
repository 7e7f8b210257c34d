"""Container records as JSON text and back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from plugrun.container import (
    BindMount,
    ContainerConfig,
    ContainerRecord,
    ImageMount,
    Resources,
    Security,
    Status,
    VolumeMount,
)


def encode(record: ContainerRecord) -> str:
    """Return the JSON text of ``record``."""
    config = record.config
    raw = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    raw["config"] = {
        **config._asdict(),
        "labels": dict(config.labels),
        "tmpfs": dict(config.tmpfs),
        "ulimits": dict(config.ulimits),
        "binds": [bind._asdict() for bind in config.binds],
        "volumes": [volume._asdict() for volume in config.volumes],
        "images": [image._asdict() for image in config.images],
        "security": config.security._asdict(),
        "resources": config.resources._asdict(),
    }
    return json.dumps(raw, separators=(",", ":"))


def decode(text: str) -> ContainerRecord:
    """Return the record that :func:`encode` wrote; keys of a newer plugrun are ignored."""
    raw = json.loads(text)
    names = {field.name for field in dataclasses.fields(ContainerRecord)}
    known = {name: value for name, value in raw.items() if name in names}
    return ContainerRecord(**{**known, "config": _config(raw["config"]), "status": Status(raw["status"])})


def _config(raw: dict[str, Any]) -> ContainerConfig:
    values = _known(ContainerConfig._fields, raw)
    for name in ("args", "entrypoint", "env"):
        values[name] = tuple(raw[name])
    values["binds"] = tuple(BindMount(**_known(BindMount._fields, bind)) for bind in raw["binds"])
    values["volumes"] = tuple(VolumeMount(**_known(VolumeMount._fields, one)) for one in raw.get("volumes", ()))
    values["images"] = tuple(ImageMount(**_known(ImageMount._fields, one)) for one in raw.get("images", ()))
    values["ulimits"] = {name: (soft, hard) for name, (soft, hard) in raw["ulimits"].items()}
    security = _known(Security._fields, raw["security"])
    security["cap_add"], security["cap_drop"] = tuple(security["cap_add"]), tuple(security["cap_drop"])
    values["security"] = Security(**security)
    values["resources"] = Resources(**_known(Resources._fields, raw["resources"]))
    return ContainerConfig(**values)


def _known(fields: tuple[str, ...], raw: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in raw.items() if name in fields}
