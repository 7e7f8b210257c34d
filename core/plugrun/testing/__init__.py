"""The conformance kit: what a driver's own tests import. It needs pytest, and the engine never imports it.

A storage driver is tested by a subclass that knows how to open it::

    @pytest.mark.root
    class TestContract(StorageContract):
        def open(self, state):
            return MyDriver(state)

A network driver likewise with :class:`NetworkContract`. Run the tests as root: those of network drivers make a host of
their own, those of storage drivers mount, so have them where mounts are nobody else's, such as in
``unshare --mount --propagation private pytest``.
"""

from plugrun.testing.network import NetworkContract
from plugrun.testing.storage import StorageContract
from plugrun.testing.trees import describe, mounted

__all__ = ["NetworkContract", "StorageContract", "describe", "mounted"]
