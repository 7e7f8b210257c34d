"""Image configurations: OCI image-spec config.md, with Docker's Healthcheck and Shell.

What is not named here is ignored, whatever an image says: only these fields may shape a container (CVE-2014-6408).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from plugrun.images import digest as digests
from plugrun.images import document
from plugrun.images.document import Document
from plugrun.images.manifest import MAX_LAYERS
from plugrun.images.platform import Platform
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_HISTORY = 10_000


class Healthcheck(NamedTuple):
    """How to find out whether the container works; times in nanoseconds, 0 = the default.

    :param test: ``("NONE",)``, ``("CMD", argument…)`` or ``("CMD-SHELL", command)``.
    """

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class HistoryEntry(NamedTuple):
    """One step of how the image was made.

    :param empty_layer: the step made no layer.
    """

    created: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False

    @property
    def created_at(self) -> int:
        """When it was done, in nanoseconds since the epoch; 0 when it does not say."""
        return _moment(self.created)


class ImageConfig(NamedTuple):
    """What an image says about the containers made from it.

    :param env: ``NAME=value`` strings.
    :param exposed_ports: ``port[/protocol]`` strings.
    :param created: RFC 3339 date and time, or ``""``.
    :param diff_ids: digests of the uncompressed layers, lowest first.
    """

    architecture: str
    os: str
    variant: str = ""
    created: str = ""
    author: str = ""
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = MappingProxyType({})
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    diff_ids: tuple[str, ...] = ()
    history: tuple[HistoryEntry, ...] = ()

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant)

    @property
    def created_at(self) -> int:
        """When the image was made, in nanoseconds since the epoch; 0 when it does not say."""
        return _moment(self.created)


def parse(data: bytes, what: str) -> ImageConfig:
    """Read an image configuration.

    :param what: what the document is, for messages.
    :raises InvalidArgument: it is malformed or too large.
    """
    content = document.parse(data, what)
    if not content.text("architecture") or not content.text("os"):
        raise content.error("does not say its os and architecture: this is no image configuration")
    process = content.child("config") or Document({}, what)
    return ImageConfig(
        architecture=content.text("architecture"),
        os=content.text("os"),
        variant=content.text("variant"),
        created=content.text("created"),
        author=content.text("author"),
        env=_c_strings(process, "Env"),
        cmd=_c_strings(process, "Cmd"),
        entrypoint=_c_strings(process, "Entrypoint"),
        user=_c_string(process, "User"),
        workdir=_c_string(process, "WorkingDir"),
        volumes=_without_nul(process, "Volumes", process.keys("Volumes")),
        exposed_ports=process.keys("ExposedPorts"),
        labels=process.text_map("Labels"),
        stop_signal=process.text("StopSignal"),
        healthcheck=_healthcheck(process.child("Healthcheck")),
        shell=_c_strings(process, "Shell"),
        diff_ids=_diff_ids(content),
        history=_history(content),
    )


def _moment(text: str) -> int:
    from plugrun.times import parse_timestamp

    return max(0, parse_timestamp(text) or 0)


def _c_string(content: Document, key: str) -> str:
    return _without_nul(content, key, (content.text(key),))[0]


def _c_strings(content: Document, key: str) -> tuple[str, ...]:
    return _without_nul(content, key, content.texts(key))


def _without_nul(content: Document, key: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in value for value in values):
        raise content.error(f"{key} holds a NUL character")
    return values


def _diff_ids(content: Document) -> tuple[str, ...]:
    rootfs = content.child("rootfs")
    if rootfs is None or rootfs.text("type") != "layers":
        raise content.error('rootfs is not of type "layers"')
    found = rootfs.texts("diff_ids")
    if len(found) > MAX_LAYERS:
        raise content.error(f"has {len(found)} layers, more than {MAX_LAYERS}")
    return tuple(digests.check(item, f"{content.what}: diff_id") for item in found)


def _healthcheck(entry: Document | None) -> Healthcheck | None:
    if entry is None:
        return None
    return Healthcheck(
        test=_c_strings(entry, "Test"),
        interval=entry.number("Interval"),
        timeout=entry.number("Timeout"),
        start_period=entry.number("StartPeriod"),
        start_interval=entry.number("StartInterval"),
        retries=entry.number("Retries"),
    )


def _history(content: Document) -> tuple[HistoryEntry, ...]:
    entries = content.children("history")
    if len(entries) > _MAX_HISTORY:
        raise content.error(f"has {len(entries)} history entries, more than {_MAX_HISTORY}")
    return tuple(
        HistoryEntry(
            created=entry.text("created"),
            created_by=entry.text("created_by"),
            comment=entry.text("comment"),
            empty_layer=entry.flag("empty_layer"),
        )
        for entry in entries
    )
