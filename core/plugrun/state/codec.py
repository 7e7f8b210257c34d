"""Container records as JSON text and back. Plain dataclasses: this runs on every command."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from plugrun.container import BindMount, ContainerConfig, ContainerRecord, Resources, Security, Status


def encode(record: ContainerRecord) -> str:
    """Return the JSON text of ``record``."""
    return json.dumps(dataclasses.asdict(record), separators=(",", ":"))


def decode(text: str) -> ContainerRecord:
    """Return the record that :func:`encode` wrote; keys of a newer plugrun are ignored."""
    raw = json.loads(text)
    return ContainerRecord(
        **{**_known(ContainerRecord, raw), "config": _config(raw["config"]), "status": Status(raw["status"])}
    )


def _config(raw: dict[str, Any]) -> ContainerConfig:
    values = _known(ContainerConfig, raw)
    for name in ("args", "entrypoint", "env"):
        values[name] = tuple(raw[name])
    values["binds"] = tuple(BindMount(**_known(BindMount, bind)) for bind in raw["binds"])
    values["ulimits"] = {name: (soft, hard) for name, (soft, hard) in raw["ulimits"].items()}
    security = _known(Security, raw["security"])
    security["cap_add"], security["cap_drop"] = tuple(security["cap_add"]), tuple(security["cap_drop"])
    values["security"] = Security(**security)
    values["resources"] = Resources(**_known(Resources, raw["resources"]))
    return ContainerConfig(**values)


def _known(kind: type, raw: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in raw.items() if name in names}
