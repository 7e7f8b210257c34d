"""Installed distributions for tests: a site directory with modules and .dist-info directories, as installers make."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plugrun.manager import Plugins, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

GROUP = "acme-test"
HEAD = "from plugrun.api import ApiVersion, DriverSpec, NetworkRequest, hookimpl\n"
GOOD = """
@hookimpl
def plugrun_storage_drivers():
    return [DriverSpec("good", lambda state, options: None, lambda state: None)]
"""


def fresh_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put an empty site directory on the path; forget its modules at the end. Body of a fixture."""
    site = tmp_path / "site"
    site.mkdir(mode=0o755)
    monkeypatch.syspath_prepend(str(site))
    known = set(sys.modules)
    yield site
    for name in set(sys.modules) - known:
        if name.startswith("acme"):
            del sys.modules[name]


def install(
    site: Path,
    dist: str,
    entries: dict[str, str],
    source: str | None = "",
    *,
    version: str = "1.0",
    group: str = GROUP,
) -> None:
    """Install a distribution with entry points and, unless ``source`` is None, a module of its name."""
    info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
    info.mkdir(mode=0o755)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n\nText: no header\n")
    lines = ["[console_scripts]", "acme = nothing:main", "", f"[{group}]"]
    lines += [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    if source is not None:
        (site / f"{dist.replace('-', '_')}.py").write_text(HEAD + source)


def found(**options: Any) -> Plugins:
    """Load what is installed in the tests' own entry-point group."""
    return load(group=GROUP, **options)
