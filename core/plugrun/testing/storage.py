"""The contract of storage drivers, as tests."""

from __future__ import annotations

from plugrun.testing.storage_faults import FaultCases
from plugrun.testing.storage_layers import LayerCases
from plugrun.testing.storage_races import RaceCases
from plugrun.testing.storage_snapshots import SnapshotCases
from plugrun.testing.storage_trees import TreeCases


class StorageContract(SnapshotCases, TreeCases, LayerCases, RaceCases, FaultCases):
    """Subclass it in a test module, implement ``open(state)``, and pytest runs every case against your driver.

    What drivers may do differently is declared in ``features``, never found out from their names:

    ``rename-lower-dir``
        a container may rename a directory that comes from its image. Without it rename(2) must answer EXDEV.

    The optional protocols :class:`plugrun.api.SupportsLayerDir` and :class:`plugrun.api.SupportsGC` are tested when the
    driver has their methods. Override the ``state`` fixture when the driver needs a file system of its own.
    """
