"""Which images this machine can run: architecture names of the OCI image-spec (Go's GOARCH)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from plugrun.errors import FailedPrecondition, InvalidArgument
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plugrun.images.manifest import Descriptor


class Platform(NamedTuple):
    """What an image is built for.

    :param variant: revision of the architecture, e.g. ``v7`` of arm; ``""`` for the basic one.
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


# uname(2) machine → platforms it runs, the best first. The basic variant goes by two names.
_RUNS = {
    "x86_64": ("amd64", "amd64/v1", "386"),
    "aarch64": ("arm64/v8", "arm64"),
    "armv7l": ("arm/v7", "arm/v6", "arm/v5", "arm"),
    "armv6l": ("arm/v6", "arm/v5", "arm"),
    "i686": ("386",),
    "i386": ("386",),
    "ppc64le": ("ppc64le",),
    "s390x": ("s390x",),
    "riscv64": ("riscv64",),
    "loongarch64": ("loong64",),
    "mips64": ("mips64le",),
}

_BASIC = {("amd64", "v1"), ("arm64", "v8")}  # variants that are as good as none


def host() -> Platform:
    """Return this machine's platform, in the words images use."""
    architecture, _, variant = _runs()[0].partition("/")
    return Platform("linux", architecture, variant)


def check_runs(platform: Platform, what: str) -> None:
    """Make sure that this machine can run ``platform``.

    :param what: the image, for the message.
    :raises FailedPrecondition: it cannot; names both platforms.
    """
    if _rank(platform) is None:
        raise FailedPrecondition(
            f"{what} is for {platform}, and this machine is {host()}",
            hint="get the image for this machine's platform",
        )


def choose(descriptors: Sequence[Descriptor], what: str) -> Descriptor:
    """Choose from an image index what runs best here.

    :raises FailedPrecondition: nothing does; names what there is.
    """
    if len(descriptors) == 1 and descriptors[0].platform is None:
        return descriptors[0]  # its configuration will tell
    return best(descriptors, what)[0]


def best(descriptors: Sequence[Descriptor], what: str) -> list[Descriptor]:
    """Return all those of the one platform that runs best here.

    :raises FailedPrecondition: as :func:`choose`.
    """
    ranked = [(_rank(item.platform), item) for item in descriptors if item.platform is not None]
    usable = [(rank, item) for rank, item in ranked if rank is not None]
    if usable:
        first = min(rank for rank, _ in usable)
        return [item for rank, item in usable if rank == first]
    raise _nothing_for(host(), descriptors, what)


def _nothing_for(wanted: Platform, descriptors: Sequence[Descriptor], what: str) -> FailedPrecondition:
    found = ", ".join(sorted({str(item.platform) for item in descriptors if item.platform})[:8]) or "nothing"
    return FailedPrecondition(f"{what} has no image for {wanted}, only for {found}")


def matching(descriptors: Sequence[Descriptor], wanted: Platform, what: str) -> Descriptor:
    """Choose from an image index what is built for one platform.

    :raises FailedPrecondition: nothing is; names what there is.
    """
    if len(descriptors) == 1 and descriptors[0].platform is None:
        return descriptors[0]  # its configuration will tell
    for item in descriptors:
        if item.platform is not None and is_same(item.platform, wanted):
            return item
    raise _nothing_for(wanted, descriptors, what)


def is_same(found: Platform, wanted: Platform) -> bool:
    """Whether two platforms are one: the basic variant goes by two names, and ``wanted`` may leave the variant open."""
    return found[:2] == wanted[:2] and (not wanted.variant or _variant(found) == _variant(wanted))


def _variant(platform: Platform) -> str:
    return "" if (platform.architecture, platform.variant) in _BASIC else platform.variant


def parse(text: str) -> Platform:
    """Read ``os/architecture[/variant]``.

    :raises InvalidArgument: it is nothing like that.
    """
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(part.isascii() and part.isalnum() for part in parts):
        raise InvalidArgument(f"platform {text!a} is not os/architecture[/variant]", hint=f"for example {host()}")
    return Platform(*parts)


def _runs() -> tuple[str, ...]:
    machine = os.uname().machine
    return _RUNS.get(machine, (machine,))


def _rank(platform: Platform) -> int | None:
    name = "/".join(filter(None, (platform.architecture, platform.variant)))
    runs = _runs()
    return runs.index(name) if platform.os == "linux" and name in runs else None
