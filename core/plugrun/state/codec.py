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
from plugrun.endpoint import Endpoint
from plugrun.ports import PortMapping


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
    raw["endpoints"] = [{**one._asdict(), "options": dict(one.options)} for one in record.endpoints]
    return json.dumps(raw, separators=(",", ":"))


def decode(text: str) -> ContainerRecord:
    """Return the record that :func:`encode` wrote; keys of a newer plugrun are ignored."""
    raw = json.loads(text)
    names = {field.name for field in dataclasses.fields(ContainerRecord)}
    known = {name: value for name, value in raw.items() if name in names}
    known["endpoints"] = tuple(map(_endpoint, raw["endpoints"])) if "endpoints" in raw else _only_endpoint(raw)
    known["ports"] = tuple(PortMapping(*one) for one in raw.get("ports", ()))
    return ContainerRecord(**{**known, "config": _config(raw["config"]), "status": Status(raw["status"])})


def _endpoint(raw: dict[str, Any]) -> Endpoint:
    values = _known(Endpoint._fields, raw)
    return Endpoint(**{**values, "aliases": tuple(values.get("aliases", ()))})


def _only_endpoint(raw: dict[str, Any]) -> tuple[Endpoint, ...]:
    """Return the endpoint of a record from before there could be several."""
    target = raw.get("network_target")
    name = raw["network"] + (f":{target}" if target else "")
    options, result = raw.get("network_options", {}), raw.get("net_result")
    return (Endpoint(raw["network"], raw["network_api"], "", name, target, options, result=result),)


def _config(raw: dict[str, Any]) -> ContainerConfig:
    values = _known(ContainerConfig._fields, raw)
    for name in ("args", "entrypoint", "env"):
        values[name] = tuple(raw[name])
    for name in ("exposed", "dns", "dns_search", "dns_options"):
        values[name] = tuple(raw.get(name, ()))
    values["extra_hosts"] = tuple((name, address) for name, address in raw.get("extra_hosts", ()))
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
