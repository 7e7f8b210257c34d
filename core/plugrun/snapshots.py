"""From blobs to committed snapshots: each layer of an image unpacked once in each storage driver that needs it.

A committed snapshot is named by the chain id of its stack of layers (OCI image-spec, config.md, "Layer ChainID"), so
images that share their lower layers share the snapshots.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

from plugrun import locks
from plugrun.api import NotFound, SnapshotKind, StorageDriver, SupportsLayerDir
from plugrun.images import digest as digests

if TYPE_CHECKING:
    import threading
    from contextlib import AbstractContextManager
    from pathlib import Path

    from plugrun.api import Mount
    from plugrun.images.image import Image, Layer
    from plugrun.images.unpack import Whiteouts

STAGING_PREFIX = "staging-"
AT_WORK = "layers"  # the lock of :func:`at_work`: who gets it alone knows that nobody is
_CHUNK = 1 << 20
_PATIENCE = 3600.0  # seconds to wait for another process that unpacks the same layer

Progress = Callable[[int, int], None]


class Layers(Protocol):
    """Where layers are read from: the content store, or a registry."""

    def open_layer(self, layer: Layer, /) -> BinaryIO:
        """Return a layer's uncompressed bytes; reading them to the end checks them."""
        ...


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Return the name of the committed snapshot of each layer on all below it: chain ids without their ``sha256:``.

    :param diff_ids: digests of the uncompressed layers, lowest first.
    """
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digests.of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    # Only a lowest layer can be of another algorithm, whose digests are too long for a snapshot's name.
    return [digests.encoded(item if item.startswith("sha256:") else digests.of(item.encode())) for item in chains]


@contextlib.contextmanager
def unpacked(
    source: Layers,
    image: Image,
    driver: StorageDriver,
    *,
    lock_dir: Path,
    mount: Callable[[Sequence[Mount], Path], None],
    unmount: Callable[[Path], None],
    staging: Path,
    give_up: Callable[[], None] = lambda: None,
    progress: Progress | None = None,
) -> Iterator[str | None]:
    """Have all layers of an image in a driver for the duration of the block: what is missing is unpacked first.

    Another process that unpacks or removes one of them is waited for. What is unpacked stays when a later layer fails.
    Once something stands on the top layer, the driver keeps all of them.

    :param source: has the layers that may be missing.
    :param lock_dir: an existing directory for lock files, the same for every process.
    :param mount: mounts a driver's answer at an existing directory; ``unmount`` undoes it.
    :param staging: an existing directory in which those directories are made.
    :param give_up: called when unpacking fails while other threads may still wait for the source; ends their waiting.
    :param progress: called with the number of layers done and of those that were missing.
    :return: name of the top layer's snapshot; ``None`` when the image has no layers.
    :raises InvalidArgument: a layer is damaged, or must not be unpacked.
    :raises Unavailable: no space is left.
    """
    chains = chain_ids(image.config.diff_ids)
    if not chains:
        yield None
        return
    with contextlib.ExitStack() as held:
        if not _keep(driver, chains[-1], lock_dir, held):
            held.enter_context(at_work(lock_dir))
            plan = list(zip(chains, [None, *chains], image.layers, strict=False))
            # From the lowest up, as every process does, so that no two can wait for each other.
            missing = [step for step in plan if _claim(driver, step[0], lock_dir, held)]
            mounted = functools.partial(_mounted, driver, mount=mount, unmount=unmount, staging=staging)
            if isinstance(driver, SupportsLayerDir):
                _unpack_aside(source, driver, missing, progress, mounted, give_up=give_up)
            else:
                for done, step in enumerate(missing, 1):
                    _unpack_onto_parent(source, driver, step, mounted)
                    _tell(progress, done, len(missing))
        yield chains[-1]


_Step = tuple[str, str | None, "Layer"]  # the snapshot's name, its parent's, and the layer between them
_Mounted = Callable[..., "AbstractContextManager[Path]"]  # :func:`_mounted` without what stays the same


def _is_committed(driver: StorageDriver, name: str) -> bool:
    try:
        return driver.stat(name).kind is SnapshotKind.COMMITTED
    except NotFound:
        return False


def lock_of(lock_dir: Path, name: str) -> Path:
    """Return the lock of one layer: shared by those who need it as it is, held by who makes or removes it."""
    return lock_dir / f"layer-{name}"


def at_work(lock_dir: Path) -> AbstractContextManager[int]:
    """Tell for the duration of a block that layers are being made or removed, which must not look left behind."""
    return locks.held(lock_dir / AT_WORK, what="layers", timeout=_PATIENCE, shared=True)


def _keep(driver: StorageDriver, name: str, lock_dir: Path, held: contextlib.ExitStack) -> bool:
    """Have one layer stay; ``False`` when it is not there."""
    with contextlib.ExitStack() as own:
        own.enter_context(_locked(lock_dir, name, shared=True))
        if not _is_committed(driver, name):
            return False
        held.enter_context(own.pop_all())
    return True


def _claim(driver: StorageDriver, name: str, lock_dir: Path, held: contextlib.ExitStack) -> bool:
    """Have one layer stay, or take its lock to make it; return whether it is missing."""
    while not _keep(driver, name, lock_dir, held):
        with contextlib.ExitStack() as own:
            own.enter_context(_locked(lock_dir, name))
            own.push(functools.partial(_unlink_on_error, lock_of(lock_dir, name)))
            if not _is_committed(driver, name):
                held.enter_context(own.pop_all())
                return True
    return False


def _unlink_on_error(path: Path, kind: type[BaseException] | None, *_: object) -> None:
    """Leave no lock for a layer that there is not; as long as the layer, the file stays."""
    if kind is not None:
        path.unlink(missing_ok=True)


def _locked(lock_dir: Path, name: str, *, shared: bool = False) -> AbstractContextManager[int]:
    return locks.held(lock_of(lock_dir, name), what=f"layer {name[:12]}", timeout=_PATIENCE, shared=shared)


def _unpack_aside(
    source: Layers,
    driver: SupportsLayerDir,
    missing: Sequence[_Step],
    progress: Progress | None,
    mounted: _Mounted,
    *,
    give_up: Callable[[], None],
) -> None:
    """Unpack layers without their parents, all at once; only this thread calls the driver."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from plugrun import waiting
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
        pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        try:
            largest_first = sorted(missing, key=lambda step: -step[2].size)  # so that none is left running alone
            jobs = {
                name: pool.submit(_fill, source, layer, places[name], Whiteouts.OVERLAY, stop)
                for name, _, layer in largest_first
            }
            for done, step in enumerate(missing, 1):
                name, parent, _ = step
                implied = waiting.result(jobs[name])
                if parent is None or not implied or _inherit(driver, places[name], step, implied, mounted):
                    driver.commit_layer(name, staged[name], parent)
                    del staged[name]
                else:  # rare: a second time, one after the other
                    _forget(driver, staged.pop(name))
                    _unpack_onto_parent(source, driver, step, mounted)
                _tell(progress, done, len(missing))
        except BaseException:
            stop.set()  # an interrupt comes to this thread only, and waits for the others
            give_up()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        for key in staged.values():
            _forget(driver, key)


def _inherit(driver: StorageDriver, place: Path, step: _Step, implied: Sequence[bytes], mounted: _Mounted) -> bool:
    """Make implied directories of a staged layer what they are in its parent; returns as :func:`implied.inherit`."""
    from plugrun.images.implied import inherit
    from plugrun.rootfd import RootDir

    name, parent, _ = step
    key = f"{STAGING_PREFIX}{name}.parent"
    try:
        with mounted(key, parent, view=True) as point, RootDir.at(place) as layer, RootDir.at(point) as lower:
            return inherit(layer.fd, lower.fd, implied)
    finally:
        _forget(driver, key)


def _unpack_onto_parent(source: Layers, driver: StorageDriver, step: _Step, mounted: _Mounted) -> None:
    """Unpack a layer into a mounted tree that holds its parents."""
    from plugrun.images.unpack import Whiteouts

    name, parent, layer = step
    key = STAGING_PREFIX + name
    try:
        with mounted(key, parent) as root:
            _fill(source, layer, root, Whiteouts.APPLY)
        driver.commit(name, key)
    except BaseException:
        _forget(driver, key)
        raise


@contextlib.contextmanager
def _mounted(
    driver: StorageDriver,
    key: str,
    parent: str | None,
    *,
    mount: Callable[[Sequence[Mount], Path], None],
    unmount: Callable[[Path], None],
    staging: Path,
    view: bool = False,
) -> Iterator[Path]:
    """Make an active snapshot, or a view, and mount it for the duration of the block."""
    point = staging / key
    point.mkdir(mode=0o700, exist_ok=True)
    unmount(point)  # a process killed at this place left it mounted
    _forget(driver, key)
    try:
        mount((driver.view if view else driver.prepare)(key, parent), point)
        try:
            yield point
        finally:
            unmount(point)
    finally:
        point.rmdir()


def _fill(
    source: Layers, layer: Layer, root: Path, whiteouts: Whiteouts, stop: threading.Event | None = None
) -> list[bytes]:
    """Unpack one layer; returns only when its digests were right, as :func:`unpack_layer` does.

    :param stop: set to make it end with an error soon.
    """
    from plugrun.images.streams import Stoppable
    from plugrun.images.unpack import unpack_layer
    from plugrun.rootfd import RootDir

    with RootDir.at(root) as opened, source.open_layer(layer) as checked:
        stream = checked if stop is None else io.BufferedReader(Stoppable(checked, stop), _CHUNK)
        implied = unpack_layer(stream, opened.fd, whiteouts=whiteouts)
        while stream.read(_CHUNK):  # what follows the archive's end is part of what was hashed
            pass
    return implied


def _forget(driver: StorageDriver, key: str) -> None:
    """Remove a staging key, ours or one that a killed process left; the caller holds the layer's lock."""
    with contextlib.suppress(NotFound):
        driver.remove(key)


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
