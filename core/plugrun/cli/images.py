"""``images``, ``load``, ``import``, ``rmi`` and ``image inspect``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from plugrun.cli import text
from plugrun.cli.context import Globals, engine
from plugrun.cli.errors import report
from plugrun.cli.params import argument, option
from plugrun.errors import InvalidArgument, PlugrunError
from plugrun.images import digest as digests
from plugrun.images import reference

if TYPE_CHECKING:
    from plugrun.engine import Engine
    from plugrun.images.store import Image, LoadedImage

_COLUMNS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
}
_NONE = "<none>"


def ls(
    common: Globals,
    name: Annotated[str | None, argument("[NAME[:TAG]]", help="Show this image only.")] = None,
    all_: Annotated[bool, option("--all", "-a", help="For Docker's sake: all are shown anyway.")] = False,
    quiet: Annotated[bool, option("--quiet", "-q", help="Show ids only.")] = False,
    digests_: Annotated[bool, option("--digests", help="Show digests.")] = False,
    no_trunc: Annotated[bool, option("--no-trunc", help="Show ids whole.")] = False,
    filters: Annotated[
        list[str] | None,
        option("--filter", "-f", help="reference=PATTERN, label=KEY[=VALUE], dangling=true.", metavar="FILTER"),
    ] = None,
    format_: Annotated[
        str | None, option("--format", help="table, json, or a Go template.", metavar="FORMAT")
    ] = None,
) -> None:
    """List images."""
    del all_
    with engine(common, changes=False) as opened:
        images = opened.images.list(damaged=lambda what: opened.warn(text.printable(what)))
    patterns = [*(filters or ()), *([f"reference={name}"] if name else ())]
    rows = [
        _row(image, named, whole=no_trunc)
        for image in images
        for named in image.references or ("",)
        if all(_matches(image, named, pattern) for pattern in patterns)
    ]
    rows.sort(key=lambda row: str(row["CreatedAt"]), reverse=True)
    columns = {field: heading for field, heading in _COLUMNS.items() if digests_ or field != "Digest"}
    shown = "\n".join(dict.fromkeys(row["ID"] for row in rows)) if quiet else text.render(rows, format_, columns)
    if shown:
        text.say(shown)


def load(
    common: Globals,
    source: Annotated[
        str | None, option("--input", "-i", help="Archive or OCI layout directory.", metavar="FILE")
    ] = None,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print nothing.")] = False,
) -> None:
    """Add images from an archive (docker save, OCI) or an OCI layout directory; from stdin if no file is named."""
    with engine(common, changes=False) as opened:
        loaded = opened.images.load(None if source == "-" else source)
    for image in () if quiet else loaded:
        text.say("\n".join(map(text.printable, _loaded(image))))


def import_(
    common: Globals,
    source: Annotated[str, argument("FILE|-")],
    name: Annotated[str, argument("[NAME[:TAG]]")] = "",
    changes: Annotated[
        list[str] | None,
        option("--change", "-c", help="Dockerfile instruction, e.g. 'CMD [\"sh\"]'.", metavar="INSTRUCTION"),
    ] = None,
    message: Annotated[str, option("--message", "-m", help="Comment for the history.", metavar="TEXT")] = "",
    platform: Annotated[str, option(help="os/architecture[/variant].", metavar="PLATFORM")] = "",
) -> None:
    """Make an image from a tar of a root file system; print its id."""
    from plugrun.images.importer import ImportOptions

    options = ImportOptions(reference=name, changes=tuple(changes or ()), message=message, platform=platform)
    with engine(common, changes=False) as opened:
        image = opened.images.import_tar(None if source == "-" else source, options)
    text.say(image.id)


def rm(
    common: Globals,
    names: Annotated[list[str], argument("IMAGE...")],
    force: Annotated[bool, option("--force", "-f", help="Also when named twice, or in use.")] = False,
) -> int:
    """Remove images: a name, and with the last name the image."""
    failed = 0
    with engine(common) as opened:
        for name in names:
            try:
                removed = opened.images.remove(name, force=force, in_use=opened.containers.using_image)
            except PlugrunError as error:
                report(error)
                failed = 1
                continue
            for one in removed:
                text.say(f"Untagged: {_familiar(one.untagged)}" if one.untagged else f"Deleted: {one.deleted}")
        _free_layers(opened)
    return failed


def details(image: Image) -> dict[str, Any]:
    """Return everything known about an image, in the shape and the words of ``docker image inspect``."""
    config = image.config
    check = config.healthcheck
    return {
        "Id": image.id,
        "RepoTags": [_familiar(name) for name in image.references],
        "RepoDigests": sorted({f"{_split(name)[0]}@{image.manifest_digest}" for name in image.references}),
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created,
        "Config": {
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
            "Healthcheck": check and {"Test": list(check.test), "Interval": check.interval, "Retries": check.retries},
        },
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
    }


def _row(image: Image, named: str, *, whole: bool) -> dict[str, Any]:
    repository, tag = _split(named)
    moment = _moment(image.config.created)
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": image.manifest_digest,
        "ID": image.id if whole else digests.short(image.id),
        "CreatedSince": text.since(moment) if moment else "N/A",
        "CreatedAt": text.timestamp(moment),
        "Size": text.size(image.size),
        "Platform": str(image.config.platform),
    }


def _matches(image: Image, named: str, pattern: str) -> bool:
    """Whether an image passes one ``--filter``."""
    key, _, value = pattern.partition("=")
    if key == "dangling" and value in {"true", "false"}:
        return (not named) == (value == "true")
    if key == "label" and value:
        label, equals, wanted = value.partition("=")
        return label in image.config.labels and (not equals or image.config.labels[label] == wanted)
    if key == "reference" and value:
        repository, tag = _split(named)
        return any(fnmatch.fnmatchcase(shown, value) for shown in (repository, f"{repository}:{tag}", named))
    raise InvalidArgument(
        f"unknown filter {pattern!r}", hint="use reference=PATTERN, label=KEY[=VALUE] or dangling=true"
    )


def _split(named: str) -> tuple[str, str]:
    """Return the repository and the tag that users see."""
    try:
        found = reference.parse(named)
    except InvalidArgument:  # no name, or one that another tool wrote
        return named or _NONE, _NONE
    return found.familiar_name(), found.tag or _NONE


def _familiar(named: str) -> str:
    repository, tag = _split(named)
    return repository if tag == _NONE else f"{repository}:{tag}"


def _loaded(image: LoadedImage) -> Iterable[str]:
    for name, old in image.replaced.items():
        yield f"{_familiar(name)} was another image, which keeps its id: {old}"
    for name in image.references:
        yield f"Loaded image: {_familiar(name)}"
    if image.label:
        yield f"the archive calls it {image.label!a:.200}, which is no image name"
    if not image.references:
        yield f"Loaded image ID: {image.id}"


def _moment(created: str) -> float:
    """Return seconds since the epoch, 0 when the image does not say."""
    try:
        return max(0.0, datetime.fromisoformat(created).timestamp())
    except (ValueError, OverflowError):
        return 0.0


def _free_layers(opened: Engine) -> None:
    """Remove what drivers have of images that are gone, and of crashes; a driver that cannot is only a warning."""
    from plugrun import mounts
    from plugrun.unneeded import remove_leftovers, remove_unused

    locks, staging = opened.paths.root / "locks", opened.paths.run_root / "staging"
    used: Sequence[str] = [name for name in opened.plugins.storage if (opened.paths.root / "storage" / name).exists()]
    for name in used:
        try:
            driver = opened.storage(name, {})
            remove_leftovers(driver, lock_dir=locks, staging=staging, unmount=lambda at: mounts.unmount(str(at)))
            remove_unused(driver, opened.images.list, lock_dir=locks)
        except PlugrunError as error:
            opened.warn(f"storage driver {name} kept layers that nothing needs: {error}")
