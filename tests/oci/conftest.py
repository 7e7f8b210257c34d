"""Every test on real containers runs with each runtime that works here."""

from __future__ import annotations

import pytest

from plugrun.oci import runtime


@pytest.fixture(params=runtime.KNOWN)
def real_runtime(request: pytest.FixtureRequest) -> runtime.Runtime:
    if reason := runtime.usable(request.param):
        pytest.skip(reason)
    return runtime.choose(request.param)
