"""From blobs to committed snapshots: each layer of an image unpacked once in each storage driver that needs it.

A committed snapshot is named by the chain id of its stack of layers (OCI image-spec, config.md, "Layer ChainID"), so
images that share their lower layers share the snapshots.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from plugrun import locks
from plugrun.api import FailedPrecondition, NotFound, SnapshotKind, StorageDriver, SupportsLayerDir
from plugrun.images import digest as digests

if TYPE_CHECKING:
    import threading
    from contextlib import AbstractContextManager
    from pathlib import Path

    from plugrun.api import Mount
    from plugrun.images.image import Image, Layer
    from plugrun.images.store import ImageStore
    from plugrun.images.unpack import Whiteouts

STAGING_PREFIX = "staging-"
_LAYER = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_PATIENCE = 3600.0  # seconds to wait for another process that unpacks the same layer

Progress = Callable[[int, int], None]


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Return the name of the committed snapshot of each layer on all below it: chain ids without their ``sha256:``.

    :param diff_ids: digests of the uncompressed layers, lowest first.
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digests.of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    # Only a lowest layer can be of another algorithm, whose digests are too long for a snapshot's name.
    return [digests.encoded(item if item.startswith("sha256:") else digests.of(item.encode())) for item in chains]


def ensure_unpacked(
    store: ImageStore,
    image: Image,
    driver: StorageDriver,
    *,
    lock_dir: Path,
    mount: Callable[[Sequence[Mount], Path], None],
    unmount: Callable[[Path], None],
    staging: Path,
    progress: Progress | None = None,
) -> str | None:
    """Unpack the layers of an image that a driver does not have yet.

    Another process that unpacks one of them is waited for. What is unpacked stays when a later layer fails.

    :param lock_dir: an existing directory for lock files, the same for every process.
    :param mount: mounts a driver's answer at an existing directory; ``unmount`` undoes it.
    :param staging: an existing directory in which those directories are made.
    :param progress: called with the number of layers done and of those that were missing.
    :return: name of the top layer's snapshot; ``None`` when the image has no layers.
    :raises InvalidArgument: a layer is damaged, or must not be unpacked.
    :raises Unavailable: no space is left.
    """
    chains = chain_ids(image.config.diff_ids)
    if not chains:
        return None
    if not _is_committed(driver, chains[-1]):
        plan = list(zip(chains, [None, *chains], image.layers, strict=False))
        with contextlib.ExitStack() as held:
            # From the lowest up, as every process does, so that no two can wait for each other.
            missing = [step for step in plan if _claim(driver, step[0], lock_dir, held)]
            if isinstance(driver, SupportsLayerDir):
                _unpack_aside(store, driver, missing, progress)
            else:
                mounted = functools.partial(_mounted, driver, mount=mount, unmount=unmount, staging=staging)
                _unpack_in_turn(store, driver, missing, progress, mounted)
    return chains[-1]


_Step = tuple[str, str | None, "Layer"]  # the snapshot's name, its parent's, and the layer between them


def _is_committed(driver: StorageDriver, name: str) -> bool:
    try:
        return driver.stat(name).kind is SnapshotKind.COMMITTED
    except NotFound:
        return False


def _claim(driver: StorageDriver, name: str, lock_dir: Path, held: contextlib.ExitStack) -> bool:
    """Take the lock of one missing layer; ``False`` when it is there, or another process just finished it."""
    if _is_committed(driver, name):
        return False
    path = lock_dir / f"layer-{name}"
    held.enter_context(locks.held(path, what=f"layer {name[:12]}", timeout=_PATIENCE))
    held.callback(path.unlink, missing_ok=True)  # before the lock is let go; locks.py knows that files may vanish
    return not _is_committed(driver, name)


def _unpack_aside(
    store: ImageStore, driver: SupportsLayerDir, missing: Sequence[_Step], progress: Progress | None
) -> None:
    """Unpack layers without their parents, all at once; only this thread calls the driver."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from plugrun.images.unpack import Whiteouts

    assert isinstance(driver, StorageDriver)
    staged: dict[str, str] = {}  # snapshot name → key, until it is committed
    stop = threading.Event()
    try:
        places = {}
        for name, _, _ in missing:
            staged[name] = STAGING_PREFIX + name
            _forget(driver, staged[name])
            places[name] = driver.layer_dir(staged[name])
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            largest_first = sorted(missing, key=lambda step: -step[2].size)  # so that none is left running alone
            jobs = {
                name: pool.submit(_fill, store, layer, places[name], Whiteouts.OVERLAY, stop)
                for name, _, layer in largest_first
            }
            try:
                for done, (name, parent, _) in enumerate(missing, 1):
                    jobs[name].result()
                    driver.commit_layer(name, staged.pop(name), parent)
                    _tell(progress, done, len(missing))
            finally:
                stop.set()  # an interrupt comes to this thread only, and waits for the others
                pool.shutdown(cancel_futures=True)
    finally:
        for key in staged.values():
            _forget(driver, key)


def _unpack_in_turn(
    store: ImageStore,
    driver: StorageDriver,
    missing: Sequence[_Step],
    progress: Progress | None,
    mounted: Callable[[str, str | None], AbstractContextManager[Path]],
) -> None:
    """Unpack layers one after another, each into a mounted tree that holds its parents."""
    from plugrun.images.unpack import Whiteouts

    for done, (name, parent, layer) in enumerate(missing, 1):
        key = STAGING_PREFIX + name
        try:
            with mounted(key, parent) as root:
                _fill(store, layer, root, Whiteouts.APPLY)
            driver.commit(name, key)
        except BaseException:
            _forget(driver, key)
            raise
        _tell(progress, done, len(missing))


@contextlib.contextmanager
def _mounted(
    driver: StorageDriver,
    key: str,
    parent: str | None,
    *,
    mount: Callable[[Sequence[Mount], Path], None],
    unmount: Callable[[Path], None],
    staging: Path,
) -> Iterator[Path]:
    """Make an active snapshot and mount it for the duration of the block."""
    point = staging / key
    point.mkdir(mode=0o700, exist_ok=True)
    unmount(point)  # a process killed at this place left it mounted
    _forget(driver, key)
    try:
        mount(driver.prepare(key, parent), point)
        try:
            yield point
        finally:
            unmount(point)
    finally:
        point.rmdir()


def _fill(
    store: ImageStore, layer: Layer, root: Path, whiteouts: Whiteouts, stop: threading.Event | None = None
) -> None:
    """Unpack one layer; returns only when its digests were right.

    :param stop: set to make it end with an error soon.
    """
    from plugrun.images.streams import Stoppable
    from plugrun.images.unpack import unpack_layer

    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with store.open_layer(layer) as checked:
            stream = checked if stop is None else io.BufferedReader(Stoppable(checked, stop), _CHUNK)
            unpack_layer(stream, descriptor, whiteouts=whiteouts)
            while stream.read(_CHUNK):  # what follows the archive's end is part of what was hashed
                pass
    finally:
        os.close(descriptor)


def _forget(driver: StorageDriver, key: str) -> None:
    """Remove a staging key, ours or one that a killed process left; the caller holds the layer's lock."""
    with contextlib.suppress(NotFound):
        driver.remove(key)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def remove_unused(driver: StorageDriver, images: Iterable[Image], *, lock_dir: Path) -> list[str]:
    """Remove the layers that no image and no other snapshot needs.

    :param images: every image there is.
    :param lock_dir: as for :func:`ensure_unpacked`; a layer that is being unpacked stays.
    :return: names of the snapshots removed.
    """
    needed = {name for image in images for name in chain_ids(image.config.diff_ids)}
    found = [info.name for info in driver.walk() if info.kind is SnapshotKind.COMMITTED and _LAYER.fullmatch(info.name)]
    candidates = [name for name in found if name not in needed]
    removed: list[str] = []
    while freed := [name for name in candidates if _remove_layer(driver, name, lock_dir)]:  # tops first, then below
        removed += freed
        candidates = [name for name in candidates if name not in freed]
    return removed


def _remove_layer(driver: StorageDriver, name: str, lock_dir: Path) -> bool:
    path = lock_dir / f"layer-{name}"
    lock = locks.try_acquire(path)
    if lock is None:
        return False
    try:
        driver.remove(name)
    except FailedPrecondition:  # something stands on it
        return False
    except NotFound:
        return True
    else:
        return True
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)
