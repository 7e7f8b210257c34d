"""The contract of network drivers, as tests."""

from __future__ import annotations

from plugrun.testing.network_endpoints import EndpointCases
from plugrun.testing.network_faults import FaultCases
from plugrun.testing.network_networks import NetworksCases
from plugrun.testing.network_ports import PortCases
from plugrun.testing.network_races import RaceCases
from plugrun.testing.network_rules import ExplainCases, ReloadCases
from plugrun.testing.network_teardown import TeardownCases


class NetworkContract(
    EndpointCases,
    TeardownCases,
    NetworksCases,
    PortCases,
    ReloadCases,
    ExplainCases,
    FaultCases,
    RaceCases,
):
    """What any network driver must do. Subclass it, say how to open your driver, and pytest runs every case against it.

    A whole test module of a driver (``pip install plugrun-core pytest``; Debian packages ``iproute2``, and ``nftables``
    for looking at rules)::

        from mydriver import MyDriver
        from plugrun.testing import NetworkContract

        class TestContract(NetworkContract):
            def open(self, state):
                return MyDriver(state)

    Run it as root. Each case is on a throw-away host, which the driver takes for the real one: a network namespace with
    a neighbour on the interface ``lan0``, 192.0.2.2 and 2001:db8::2, its own ``/sys`` and an empty ``/run``. The
    fixture ``host``, a :class:`plugrun.testing.network_host.ThrowAwayHost`, is for cases of your own.

    *Opening.* ``open(state)`` is called with the driver's state directory, as its factory is: it exists, mode 0700, is
    empty or holds what an earlier driver left, and may be opened by several processes and threads at once.

    *What is left behind* is looked for everywhere: interfaces, addresses, routes, rules, processes. What the network
    itself needs may stay after ``teardown``, and is found by letting one container come and go first; after ``gc`` with
    no valid container nothing may be left.

    *Optional protocols.* :class:`plugrun.api.SupportsNetworks`, ``SupportsPorts``, ``SupportsReload`` and
    ``SupportsExplain`` are tested when the driver has their methods, and skipped otherwise. A driver with networks gets
    one in every attachment.

    *Declarations.* ``target`` is what follows the driver's name in ``--net``, if it takes one; ``bad_targets`` are some
    that make no sense. ``features`` are words for what a driver promises, never found out from its name:

    ``meet``
        containers on one network reach each other at their addresses.
    ``isolated``
        containers on different networks do not.
    ``reach-host``
        containers reach the host, at their gateway's address and at its own.
    ``reach-out``
        containers reach what the host reaches, if their network is not internal.

    A case that fails says in its docstring what it asks for.
    """
