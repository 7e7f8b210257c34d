"""The conformance kit: what a driver's own tests import. It needs pytest, and the engine never imports it.

A storage driver is tested by a subclass that knows how to open it::

    @pytest.mark.root
    class TestContract(StorageContract):
        def open(self, state):
            return MyDriver(state)

A network driver likewise with :class:`NetworkContract`. Run the tests as root in mount and network namespaces of their
own, such as ``unshare --mount --net --propagation private pytest``: they mount, and drivers change the network.
"""

from plugrun.testing.network import NetworkContract
from plugrun.testing.storage import StorageContract
from plugrun.testing.trees import describe, mounted

__all__ = ["NetworkContract", "StorageContract", "describe", "mounted"]
