"""What images, unpacked layers, containers, snapshots and volumes occupy, and how much of it could be freed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from plugrun import used_storage
from plugrun.api import NotFound, SnapshotKind
from plugrun.images import downloads, layout
from plugrun.lifecycle.state import is_running
from plugrun.snapshots import chain_ids
from plugrun.tuples import NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from plugrun.api import SnapshotInfo, StorageDriver
    from plugrun.container import ContainerRecord
    from plugrun.engine import Engine
    from plugrun.images.image import Image
    from plugrun.state.snapshots import Saved
    from plugrun.state.volumes import Volume

_LAYER = r"[0-9a-f]{64}"


class Total(NamedTuple):
    """All things of one kind.

    :param total: how many there are, ``active`` of them in use.
    :param size: bytes of all, as is ``reclaimable`` of those that could go.
    """

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


class LayerUse(NamedTuple):
    """A layer unpacked in a storage driver.

    :param name: its chain id, without ``sha256:``.
    :param size: bytes allocated, without the layers it stands on.
    :param active: a container or a snapshot of one stands on it, or an image that containers are made from needs it.
    """

    driver: str
    name: str
    size: int
    active: bool


class DiskUse(NamedTuple):
    """What was measured.

    :param blobs: bytes of every blob in the image store, by digest.
    :param users: how many containers are made from an image, by its id.
    :param layers: unpacked layers; one that two drivers hold is there twice.
    :param containers: containers with the bytes allocated in their writable layers.
    :param snapshots: snapshots of containers, with the bytes that are allocated in each.
    :param volumes: volumes with the bytes allocated in them, and the names of the containers that use them.
    :param partial: bytes that there are of each blob that a pull has begun to fetch.
    """

    images: Sequence[Image]
    users: Mapping[str, int]
    blobs: Mapping[str, int]
    layers: Sequence[LayerUse]
    containers: Sequence[tuple[ContainerRecord, int]]
    snapshots: Sequence[tuple[Saved, int]]
    volumes: Sequence[tuple[Volume, int, Sequence[str]]]
    partial: Sequence[int]

    def totals(self) -> Iterator[Total]:
        """Yield each kind."""
        active = [image for image in self.images if image.id in self.users]
        kept = {digest for image in active for digest in _digests(image)}
        size = sum(self.blobs.values())
        needed = sum(length for digest, length in self.blobs.items() if digest in kept)
        yield Total("Images", len({image.id for image in self.images}), len(active), size, size - needed)
        used, unused = ([one.size for one in self.layers if one.active is wanted] for wanted in (True, False))
        yield Total("Unpacked Layers", len(self.layers), len(used), sum(used) + sum(unused), sum(unused))
        running = [size for record, size in self.containers if is_running(record)]
        size = sum(size for _, size in self.containers)
        yield Total("Containers", len(self.containers), len(running), size, size - sum(running))
        size = sum(size for _, size in self.snapshots)
        yield Total("Snapshots", len(self.snapshots), len(self.snapshots), size, 0)  # nothing prunes them
        used, unused = ([size for _, size, users in self.volumes if bool(users) is wanted] for wanted in (True, False))
        yield Total("Local Volumes", len(self.volumes), len(used), sum(used) + sum(unused), sum(unused))
        yield Total("Partial Downloads", len(self.partial), 0, sum(self.partial), sum(self.partial))

    def unpacked(self, image: Image) -> list[int]:
        """Return the bytes that each layer of an image occupies, lowest first, in all drivers together."""
        sizes = dict.fromkeys(chain_ids(image.config.diff_ids), 0)
        for layer in self.layers:
            if layer.name in sizes:
                sizes[layer.name] += layer.size
        return list(sizes.values())


def measure(engine: Engine, *, only: Sequence[Image] | None = None, tick: Callable[[], None] = lambda: None) -> DiskUse:
    """Look at every file of layers, containers, snapshots and volumes. A driver that does not work is only a warning.

    :param only: leave out layers and containers of other images, and snapshots and volumes.
    :param tick: called now and then.
    """
    images = engine.images.list()
    users = engine.containers.images_in_use()
    records = {record.snapshot: record for record in engine.containers.all()}
    layers = None
    if only is not None:
        layers = {name for image in only for name in chain_ids(image.config.diff_ids)}
        wanted = {image.id for image in only}
        records = {key: record for key, record in records.items() if record.config.image_id in wanted}
    volumes = {volume.key: volume for volume in engine.volumes.all()} if only is None else {}
    saved = {one.key: one for one in engine.snapshots.all()} if only is None else {}
    measured = {*records, *volumes, *saved}
    active = {name for image in images if image.id in users for name in chain_ids(image.config.diff_ids)}
    sizes: dict[str, int] = {}

    def look(driver: StorageDriver) -> list[tuple[str, int, bool]]:
        snapshots = {info.name: info for info in driver.walk()}
        standing = active | {name for key in measured if key in snapshots for name in _below(key, snapshots)}
        found = []
        for name, info in snapshots.items():
            is_layer = info.kind is SnapshotKind.COMMITTED and re.fullmatch(_LAYER, name)
            if name not in measured and not (is_layer and (layers is None or name in layers)):
                continue
            tick()
            with contextlib.suppress(NotFound):  # removed meanwhile
                size = driver.usage(name).size
                if name in measured:
                    sizes[name] = size
                else:
                    found.append((name, size, name in standing))
        return found

    uses = engine.volumes.users() if volumes else {}
    held = used_storage.each(engine, look, "could not be measured")
    return DiskUse(
        images=images,
        users=users,
        blobs=_blobs(engine.paths.images),
        layers=[LayerUse(driver, *one) for driver, found in held.items() for one in found],
        containers=[(record, sizes.get(key, 0)) for key, record in records.items()],
        snapshots=[(one, sizes.get(key, 0)) for key, one in saved.items()],
        volumes=[(one, sizes.get(key, 0), list(uses.get(one.name, {}).values())) for key, one in volumes.items()],
        partial=downloads.sizes(engine.paths.images),
    )


def _below(key: str, snapshots: Mapping[str, SnapshotInfo]) -> Iterator[str]:
    """Yield every snapshot that one stands on."""
    parent = snapshots[key].parent
    while parent is not None and parent in snapshots:
        yield parent
        parent = snapshots[parent].parent


def _digests(image: Image) -> Iterator[str]:
    yield from (image.manifest_digest, image.id)
    yield from (layer.digest for layer in image.layers)


def _blobs(root: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):  # no store yet
        for digest in layout.blobs(root):
            with contextlib.suppress(FileNotFoundError):
                sizes[digest] = layout.blob_path(root, digest).stat().st_size
    return sizes
