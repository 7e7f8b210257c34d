"""The contract of storage drivers, as tests."""

from __future__ import annotations

from plugrun.testing.storage_changes import ChangesCases
from plugrun.testing.storage_clone import CloneCases
from plugrun.testing.storage_faults import FaultCases
from plugrun.testing.storage_layers import LayerCases
from plugrun.testing.storage_names import NameCases
from plugrun.testing.storage_quota import QuotaCases
from plugrun.testing.storage_races import RaceCases
from plugrun.testing.storage_reference import ReferenceCases
from plugrun.testing.storage_snapshots import SnapshotCases
from plugrun.testing.storage_trees import TreeCases
from plugrun.testing.storage_usage import UsageCases


class StorageContract(
    SnapshotCases,
    NameCases,
    TreeCases,
    ReferenceCases,
    LayerCases,
    CloneCases,
    ChangesCases,
    QuotaCases,
    UsageCases,
    RaceCases,
    FaultCases,
):
    """What any storage driver must do. Subclass it, say how to open your driver, and pytest runs every case against it.

    A whole test module of a driver that works on any file system (``pip install plugrun-core pytest``)::

        from mydriver import MyDriver
        from plugrun.testing import StorageContract

        class TestContract(StorageContract):
            def open(self, state):
                return MyDriver(state)

    Run it as root where mounts are nobody else's: ``unshare --mount --propagation private pytest``.

    *Opening.* ``open(state)`` is called with the driver's state directory, as its factory is: it exists, mode 0700, is
    empty or holds what an earlier driver left, and may be opened by several processes and threads at once.

    *A file system of its own.* A driver that needs one overrides the fixture ``state``, which returns that directory,
    empty, and cleans up after a ``yield``::

            @pytest.fixture
            def state(self, tmp_path):
                image, at = tmp_path / "image", tmp_path / "state"
                ... # make the file system in the file, mount it at the directory
                yield at
                ... # unmount it

    *Optional protocols.* :class:`plugrun.api.SupportsLayerDir`, ``SupportsClone``, ``SupportsChanges``,
    ``SupportsQuota`` and ``SupportsGC`` are tested when the driver has their methods, and skipped otherwise; the limits
    also where the driver says that the file system under it cannot.

    *Features.* What drivers may do differently is declared in the class attribute ``features``, never found out from
    their names:

    ``rename-lower-dir``
        a container may rename a directory that comes from its image. Without it rename(2) must answer EXDEV.
    ``precise-changes``
        ``changes`` yields only what changed, so that its cost follows the change and not the image. Without it any
        answer will do that covers every difference, also that everything may have changed.

    A case that fails says in its docstring what it asks for. The cases whose names begin with ``test_issue_`` come from
    bugs of other engines.
    """
