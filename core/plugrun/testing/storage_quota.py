"""Cases: limits on what an active snapshot occupies (:class:`plugrun.api.SupportsQuota`)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from plugrun.api import NotFound, StorageDriver, SupportsClone, SupportsQuota, Unavailable
from plugrun.testing.storage_base import StorageCases
from plugrun.testing.trees import describe, mounted, sync

_MIB = 2**20
_FULL = {errno.EDQUOT, errno.ENOSPC}
_IMAGE = 8 * _MIB
_LIMIT = 16 * _MIB
_MUCH = 4 * _LIMIT  # more than any limit under which a case writes on
_TOLERANCE = 4 * _MIB  # file systems count in extents and with their metadata, and some only as they write back


@runtime_checkable
class QuotaDriver(StorageDriver, SupportsQuota, Protocol):
    """A storage driver that also limits what a snapshot occupies."""


class QuotaCases(StorageCases):
    """Skipped for drivers that do not declare it, and where the file system under them cannot."""

    @pytest.fixture
    def limiting(self, driver: StorageDriver) -> QuotaDriver:
        """Return the driver, if it can do this here, with the committed ``image`` of 8 MiB and the active ``web``."""
        if not isinstance(driver, QuotaDriver):
            pytest.skip("the driver does not declare SupportsQuota")
        self.layer(driver, "image", None, lambda root: pour(root / "large", _IMAGE))
        driver.prepare("web", "image")
        try:
            driver.limit("web", 2 * _MUCH)
        except Unavailable as reason:
            pytest.skip(f"no limits here: {reason}")
        return driver

    def test_limit_stops_writing(self, limiting: QuotaDriver) -> None:
        """Nearly as much as the limit fits, whatever the image takes; more fails as on a full disk, every time."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            written = pour(root / "fill")
            assert _LIMIT - _TOLERANCE <= written <= _LIMIT + _TOLERANCE, f"{written / _MIB:.1f} MiB went in"
            assert pour(root / "again") < _TOLERANCE
            assert (root / "large").stat().st_size == _IMAGE
        assert limiting.usage("web").size <= _LIMIT + _TOLERANCE

    def test_limit_counts_many_small_files(self, limiting: QuotaDriver) -> None:
        """What does not fit into one file does not fit into a thousand."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            written = sum(pour(root / f"file{number}", _MIB // 4) for number in range(100))
            assert written <= _LIMIT + _TOLERANCE, f"{written / _MIB:.1f} MiB went in"

    def test_limit_concerns_one_snapshot(self, limiting: QuotaDriver) -> None:
        """Other snapshots on the same image, made before or after, write as they like, also when that one is full."""
        limiting.prepare("before", "image")
        limiting.limit("web", _LIMIT)
        limiting.prepare("after", "image")
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
            for key in ("before", "after"):
                with mounted(limiting.mounts(key)) as other:
                    assert pour(other / "free", 2 * _LIMIT) == 2 * _LIMIT, f"{key} is limited too"

    def test_each_snapshot_has_its_own_limit(self, limiting: QuotaDriver) -> None:
        """Two limits are two: neither adds up with the other, nor replaces it."""
        limiting.prepare("db", "image")
        limiting.limit("web", _LIMIT)
        limiting.limit("db", 2 * _LIMIT)
        for key, size in (("web", _LIMIT), ("db", 2 * _LIMIT)):
            with mounted(limiting.mounts(key)) as root:
                assert abs(pour(root / "fill") - size) <= _TOLERANCE, key

    def test_raised_limit_lets_go_on(self, limiting: QuotaDriver) -> None:
        """A larger limit holds at once, with the snapshot mounted and full, and a smaller one does too."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
            limiting.limit("web", 2 * _LIMIT)
            more = pour(root / "more")
            assert abs(more - _LIMIT) <= _TOLERANCE, f"{more / _MIB:.1f} MiB more went in"
            limiting.limit("web", _LIMIT)
            assert pour(root / "again") < _TOLERANCE
            assert (root / "fill").stat().st_size + (root / "more").stat().st_size > _LIMIT, "content was lost"

    def test_space_comes_back(self, limiting: QuotaDriver) -> None:
        """What is deleted in a full snapshot can be written again."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
            (root / "fill").unlink()
            sync(root)  # some file systems give back what was deleted with their next transaction
            assert pour(root / "fill", _LIMIT // 2) == _LIMIT // 2

    def test_full_snapshot_can_be_mounted_again(self, limiting: QuotaDriver) -> None:
        """Mounted and limited again, as the engine does, a full snapshot takes what fits once something is deleted.

        However often that is done, it does not grow.
        """
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
            crowd(root)
        for turn in range(3):
            with mounted(limiting.mounts("web")) as root:
                limiting.limit("web", _LIMIT)
                assert pour(root / f"more{turn}") < _TOLERANCE, "the limit is gone"
                (root / "fill").unlink()
                sync(root)
                assert pour(root / "fill", _LIMIT // 2) == _LIMIT // 2
                pour(root / "fill")
                crowd(root)
            assert limiting.usage("web").size <= _LIMIT + _TOLERANCE, "the limit grows"

    def test_limit_is_kept_after_reopening(self, limiting: QuotaDriver, state: Path) -> None:
        """A restart forgets no limit."""
        limiting.limit("web", _LIMIT)
        limiting.close()
        again = self.open(state)
        with mounted(again.mounts("web")) as root:
            assert pour(root / "fill") <= _LIMIT + _TOLERANCE
        again.close()

    def test_limit_is_forgotten_with_the_snapshot(self, limiting: QuotaDriver) -> None:
        """A full snapshot can be removed, and its key starts without a limit."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
        limiting.remove("web")
        with mounted(limiting.prepare("web", "image")) as root:
            assert pour(root / "free", 2 * _LIMIT) == 2 * _LIMIT

    def test_full_snapshot_can_be_committed(self, limiting: QuotaDriver) -> None:
        """With all its content; and what then stands on it has no limit."""
        limiting.limit("web", _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            pour(root / "fill")
            before = describe(root, times=True)
        limiting.commit("new", "web")
        assert self.seen(limiting, "new", times=True) == before
        with mounted(limiting.prepare("web", "new")) as root:
            assert pour(root / "free", 2 * _LIMIT) == 2 * _LIMIT

    def test_limit_is_not_cloned(self, limiting: QuotaDriver) -> None:
        """A clone has no limit, and a limit of its own leaves the source's alone."""
        if not isinstance(limiting, SupportsClone):
            pytest.skip("the driver does not declare SupportsClone")
        limiting.limit("web", _LIMIT)
        limiting.clone("copy", "web")
        with mounted(limiting.mounts("copy")) as root:
            assert pour(root / "free", 2 * _LIMIT) == 2 * _LIMIT
        limiting.limit("copy", 3 * _LIMIT)
        with mounted(limiting.mounts("web")) as root:
            assert pour(root / "fill") <= _LIMIT + _TOLERANCE

    def test_limit_needs_an_active_snapshot(self, limiting: QuotaDriver) -> None:
        """Nothing else has one."""
        limiting.view("look", "image")
        for key in ("unknown", "look", "image"):
            with pytest.raises(NotFound):
                limiting.limit(key, _LIMIT)

    def test_limit_holds_for_files_of_the_image(self, limiting: QuotaDriver) -> None:
        """Writing over what the image brought fits or fails as on a full disk, and never reaches the image."""
        limiting.limit("web", _MIB)
        with mounted(limiting.mounts("web")) as root:
            overwrite(root / "large", _IMAGE)
            assert pour(root / "fill") <= _MIB + _TOLERANCE
        with mounted(limiting.view("look", "image")) as image:
            assert not any((image / "large").read_bytes()[:_MIB]), "the image was written to"


def pour(path: Path, size: int = _MUCH) -> int:
    """Write zeros to a file, onto the device, until it is that large or full; return the bytes that went in."""
    written = 0
    with until_full(), path.open("ab", buffering=0) as stream:
        while written < size:
            written += stream.write(bytes(min(_MIB, size - written)))
            os.fsync(stream.fileno())  # what is only in memory may not have been counted yet
    return written


def crowd(root: Path) -> None:
    """Make empty files in a full tree until it takes none of those either; what they take is not in :func:`pour`."""
    with until_full():
        for number in range(1000):
            (root / f"empty{number}").touch()


def overwrite(path: Path, size: int) -> None:
    """Write over a file from its start, onto the device, as far as that goes."""
    with until_full(), path.open("r+b", buffering=0) as stream:
        for _ in range(size // _MIB):
            stream.write(b"\1" * _MIB)
            os.fsync(stream.fileno())


@contextlib.contextmanager
def until_full() -> Iterator[None]:
    """Leave the block when the kernel says that no more fits."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
