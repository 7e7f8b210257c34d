from __future__ import annotations

from typing import TYPE_CHECKING

from plugrun.api import Attachment, Host, NetResult
from plugrun.manager import load

if TYPE_CHECKING:
    from pathlib import Path


def test_stays_in_the_caller_s_namespace(tmp_path: Path) -> None:
    plugins = load()
    driver = plugins.open_network(plugins.select_network("host", tmp_path), tmp_path, {})
    assert driver.namespace(None) == Host()
    assert driver.setup(Attachment("0" * 64, "web", None)) == NetResult()
