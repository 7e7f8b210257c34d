"""One broken plugin is rejected with its reason, and the others work."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import plugin, spec
from plugrun.api import (
    API,
    ApiVersion,
    DriverError,
    FailedPrecondition,
)
from plugrun.manager import Plugins, Rejected, load
from sites import GOOD, found, fresh_site, install

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/nonexistent")


@pytest.fixture(autouse=True)
def forgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUGRUN_STRICT", raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from fresh_site(tmp_path, monkeypatch)


def only(plugins: Plugins) -> Rejected:
    (rejected,) = plugins.rejected
    return rejected


BROKEN = {
    "cannot be imported: ModuleNotFoundError: No module named 'acme_missing_library'": "import acme_missing_library",
    "cannot be imported: ZeroDivisionError: division by zero": "1 / 0",
    "cannot be imported: SystemExit: 3": "raise SystemExit(3)",
    "cannot be imported: SyntaxError": "def",
    "does not fit the hooks: TypeError: nothing in it is marked with plugrun.api.hookimpl": "def plugrun_commands(): 0",
    "Argument(s) {'shell'} are declared in the hookimpl": "@hookimpl\ndef plugrun_commands(app, shell): 0",
    "unknown hook 'plugrun_storage_driver'": "@hookimpl\ndef plugrun_storage_driver(): return []",
    "plugrun_container_event is wrapped": "@hookimpl(wrapper=True)\ndef plugrun_container_event(): return (yield)",
    "cannot declare its storage drivers: DriverError": "@hookimpl\ndef plugrun_storage_drivers(): 1 / 0",
    "cannot declare its network drivers: TypeError": "@hookimpl\ndef plugrun_network_drivers(): return 7",
    "was built for plugin API 2.0, and this is 1.0": "@hookimpl\ndef plugrun_storage_drivers():"
    " return [DriverSpec('x', print, print, api=ApiVersion(2, 0))]",
    "was built for plugin API 1.1, and this is 1.0": "@hookimpl\ndef plugrun_storage_drivers():"
    " return [DriverSpec('x', print, print, api=(1, 1))]",
    "has the invalid API version '1.0'": "@hookimpl\ndef plugrun_storage_drivers():"
    " return [DriverSpec('x', print, print, api='1.0')]",
    "has the invalid name '../x'": "@hookimpl\ndef plugrun_storage_drivers():"
    " return [DriverSpec('../x', print, print)]",
    "has the invalid name 7": "@hookimpl\ndef plugrun_network_drivers(): return [DriverSpec(7, print, print)]",
    "has a probe that cannot be called": "@hookimpl\ndef plugrun_network_drivers():"
    " return [DriverSpec('x', print, None)]",
    "has a factory that cannot be called": "@hookimpl\ndef plugrun_network_drivers():"
    " return [DriverSpec('x', 'acme:make', print)]",
    "which is not a DriverSpec": "@hookimpl\ndef plugrun_network_drivers(): return ['bridge']",
}


@pytest.mark.parametrize(("reason", "source"), BROKEN.items())
def test_broken_plugin_is_rejected_and_others_work(
    site: Path, monkeypatch: pytest.MonkeyPatch, reason: str, source: str
) -> None:
    install(site, "acme-broken", {"broken": "acme_broken"}, source, version="3.1")
    install(site, "acme-good", {"good": "acme_good"}, GOOD)
    plugins = found()
    rejected = only(plugins)
    assert reason in rejected.reason
    assert "\n" not in rejected.reason
    assert (rejected.dist, rejected.version) == ("acme-broken", "3.1")
    assert set(plugins.storage) == {"good"}
    assert plugins.select_storage(None, ROOT).dist == "acme-good"
    monkeypatch.setenv("PLUGRUN_STRICT", "1")
    sys.modules.pop("acme_broken", None)
    with pytest.raises((Exception, SystemExit)):
        found()


def test_entry_point_to_nothing_is_rejected(site: Path) -> None:
    install(site, "acme-a", {"module": "acme_none", "attribute": "acme_a:none"})
    reasons = {one.name: one.reason for one in found().rejected}
    assert "ModuleNotFoundError" in reasons["module"]
    assert "AttributeError" in reasons["attribute"]


def test_unknown_hook_may_be_optional(site: Path) -> None:
    install(site, "acme-a", {"a": "acme_a"}, f"{GOOD}\n@hookimpl(optionalhook=True)\ndef plugrun_later(): 0\n")
    assert found().rejected == ()


def test_two_unknown_hooks_are_both_rejected(site: Path) -> None:
    for name in ("acme-a", "acme-b"):
        install(site, name, {name: name.replace("-", "_")}, "@hookimpl\ndef plugrun_typo(): 0\n")
    assert [one.dist for one in found().rejected] == ["acme-a", "acme-b"]


def test_disabled_plugin_is_not_imported(site: Path) -> None:
    install(site, "acme-a", {"a": "acme_a"}, "open(__file__ + '.ran', 'w').close()\n")
    assert only(found(disabled={"a"})).reason == "is disabled"
    assert not (site / "acme_a.py.ran").exists()


def test_duplicate_driver_is_refused_naming_both(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "acme-one", {"one": "acme_one"}, GOOD)
    install(site, "acme-two", {"two": "acme_two"}, GOOD, version="2.5")
    install(site, "acme-other", {"other": "acme_other"}, GOOD.replace("good", "other"))
    plugins = found()
    assert set(plugins.storage) == {"other"}
    assert {one.dist for one in plugins.rejected} == {"acme-one", "acme-two"}
    with pytest.raises(
        FailedPrecondition, match=r"'good'.* declared by both acme-one 1\.0 and acme-two 2\.5"
    ) as refused:
        plugins.select_storage("good", ROOT)
    assert "pip" in str(refused.value.hint)
    assert plugins.select_storage(None, ROOT).dist == "acme-other"
    monkeypatch.setenv("PLUGRUN_STRICT", "1")
    with pytest.raises(DriverError, match="both"):
        found()


def test_nothing_of_a_rejected_plugin_is_used(site: Path) -> None:
    wrapper = "@hookimpl(wrapper=True)\ndef plugrun_prepare_config(): return (yield)\n"
    install(site, "acme-a", {"a": "acme_a"}, GOOD + wrapper)
    plugins = found()
    assert "is wrapped" in only(plugins).reason
    assert dict(plugins.storage) == {}


def test_same_driver_name_of_different_kinds_is_fine() -> None:
    both = plugin(plugrun_storage_drivers=lambda: [spec("x")], plugrun_network_drivers=lambda: [spec("x")])
    plugins = load([("both", both)], group=None)
    assert (set(plugins.storage), set(plugins.network), plugins.rejected) == ({"x"}, {"x"}, ())


def test_same_plugin_twice_is_rejected() -> None:
    one = plugin(plugrun_storage_drivers=lambda: [spec()])
    assert "already registered" in only(load([("a", one), ("b", one)], group=None)).reason


def test_managers_do_not_share_anything() -> None:
    assert load([("a", plugin(plugrun_storage_drivers=lambda: [spec()]))], group=None).storage
    assert not load(group=None).storage


def test_api_versions() -> None:
    assert API == (1, 0)
    assert ApiVersion(1, 3).accepts(ApiVersion(1, 0))
    assert ApiVersion(1, 3).accepts(ApiVersion(1, 3))
    assert not ApiVersion(1, 3).accepts(ApiVersion(1, 4))
    assert not ApiVersion(2, 0).accepts(ApiVersion(1, 0))


def test_bundled_drivers_are_found_and_none_is_imported() -> None:
    code = (
        "import sys, json; from plugrun.manager import load; plugins = load();"
        "heavy = ['pydantic', 'typer', 'importlib.metadata', 'email', 'tempfile', 'shutil', 'subprocess', 'sqlite3'];"
        "print(json.dumps([sorted(plugins.storage), sorted(plugins.network), len(plugins.rejected),"
        " [name for name in sys.modules if name.endswith('.driver') or name in heavy]]))"
    )
    answer = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert json.loads(answer) == [["btrfs", "overlay"], ["bridge", "container", "host", "none"], 0, []]


def test_no_warning_is_hidden() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load()
