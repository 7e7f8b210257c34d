"""Choosing a driver and opening it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from fakes import RecordingNetwork, plugin, spec
from plain_copies import DirStorage
from plugrun.api import (
    AlreadyExists,
    DriverError,
    InvalidArgument,
    NotFound,
    StorageDriver,
    Unavailable,
)
from plugrun.manager import load
from sites import found, fresh_site, install

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/nonexistent")


@pytest.fixture(autouse=True)
def forgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUGRUN_STRICT", raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from fresh_site(tmp_path, monkeypatch)


def test_default_is_the_usable_one_of_highest_priority() -> None:
    specs = [
        spec("zeta", priority=5),
        spec("beta", priority=5),
        spec("alpha", priority=1),
        spec("broken", priority=9, probe=lambda _: "no"),
    ]
    plugins = load([("a", plugin(plugrun_storage_drivers=lambda: specs))], group=None)
    assert plugins.select_storage(None, ROOT).spec.name == "beta"
    assert plugins.select_storage("alpha", ROOT).spec.name == "alpha"


def test_unknown_driver_lists_installed_ones_with_reasons(site: Path) -> None:
    source = (
        "@hookimpl\ndef plugrun_storage_drivers():\n"
        "    return [DriverSpec('good', print, lambda state: None),"
        " DriverSpec('bad', print, lambda state: 'the disk is square')]\n"
    )
    install(site, "acme-a", {"a": "acme_a"}, source)
    install(site, "acme-gone", {"gone": "acme_nowhere"}, None)
    with pytest.raises(NotFound) as refused:
        found().select_storage("zfs", ROOT)
    assert str(refused.value) == "no storage driver 'zfs' is installed"
    hint = str(refused.value.hint)
    assert hint.startswith(
        "installed: good; bad (not usable: the disk is square); plugin 'gone' of acme-gone 1.0 cannot"
    )


def test_no_driver_at_all_says_how_to_install() -> None:
    for name in (None, "zfs"):
        with pytest.raises(NotFound, match="no storage driver is installed") as refused:
            load(group=None).select_storage(name, ROOT)
        assert "pip install" in str(refused.value.hint)


def test_no_usable_driver_gives_every_reason() -> None:
    specs = [spec("a", probe=lambda _: "too old"), spec("b", probe=lambda _: "too new")]
    plugins = load([("x", plugin(plugrun_network_drivers=lambda: specs))], group=None)
    with pytest.raises(Unavailable) as refused:
        plugins.select_network(None, ROOT)
    assert "too old" in str(refused.value.hint)
    assert "too new" in str(refused.value.hint)
    with pytest.raises(Unavailable, match="network driver 'b' cannot be used here: too new") as refused:
        plugins.select_network("b", ROOT)
    assert refused.value.hint == "other network drivers installed: a"


def test_probe_gets_the_driver_s_state_directory() -> None:
    seen: list[Path] = []
    plugins = load([("x", plugin(plugrun_network_drivers=lambda: [spec("n", probe=seen.append)]))], group=None)
    plugins.select_network("n", ROOT)
    assert seen == [ROOT / "network/n"]


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        (lambda _: 1 / 0, "its probe failed: ZeroDivisionError: division by zero"),
        (lambda: None, "its probe failed: TypeError"),
        (lambda _: False, "its probe answered False instead of a sentence"),
        (lambda _: "", "its probe answered '' instead of a sentence"),
    ],
)
def test_misbehaving_probe_is_a_reason(probe: Any, reason: str) -> None:
    plugins = load([("x", plugin(plugrun_storage_drivers=lambda: [spec(probe=probe)]))], group=None)
    assert reason in str(plugins.storage["fake"].reason(ROOT))


# --- Opening ---


class Size(pydantic.BaseModel, extra="forbid"):
    size: int
    kind: str = "soft"


def opened(tmp_path: Path, given: dict[str, str], /, **changes: Any) -> StorageDriver:
    plugins = load([("x", plugin(plugrun_storage_drivers=lambda: [spec(**changes)]))], group=None)
    return plugins.open_storage(plugins.storage["fake"], tmp_path / "root", given)


def test_state_directory_is_made_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        driver = opened(tmp_path, {})
    finally:
        os.umask(old)
    assert isinstance(driver, DirStorage)
    assert driver.state == tmp_path / "root/storage/fake"
    for place in (driver.state, driver.state.parent):
        assert oct(place.stat().st_mode & 0o7777) == "0o700"


def test_options_are_checked_by_the_model(tmp_path: Path) -> None:
    got: list[Any] = []

    def factory(state: Path, options: Any) -> DirStorage:
        got.append(options)
        return DirStorage(state)

    opened(tmp_path, {"size": "10"}, factory=factory, options=lambda: Size)
    assert got == [Size(size=10)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "big"}, "storage driver 'fake' cannot take option 'size=big'"),
        ({"size": "1", "sice": "2"}, "storage driver 'fake' has no option 'sice', got 'sice=2'"),
        ({}, "storage driver 'fake' needs option 'size'"),
    ],
)
def test_wrong_option_quotes_key_and_value(tmp_path: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        opened(tmp_path, options, options=lambda: Size)
    assert message in str(refused.value)
    assert refused.value.hint == "its options: kind, size"
    assert not (tmp_path / "root").exists()


def test_driver_without_options_takes_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="takes no options, got 'a=1', 'b=2'"):
        opened(tmp_path, {"b": "2", "a": "1"})


def test_model_that_cannot_be_made_is_the_driver_s_error(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="cannot say which options it takes: ZeroDivisionError"):
        opened(tmp_path, {}, options=lambda: 1 / 0)


def test_failing_factory_is_one_line(tmp_path: Path) -> None:
    def missing(state: Path, options: Any) -> DirStorage:
        import acme_no_such_library  # type: ignore[import-not-found] # noqa: F401

        return DirStorage(state)

    with pytest.raises(DriverError, match=r"'fake' of this process cannot be opened: ModuleNotFoundError: No module"):
        opened(tmp_path, {}, factory=missing)


def test_factory_s_own_error_comes_through(tmp_path: Path) -> None:
    def refuse(state: Path, options: Any) -> DirStorage:
        raise AlreadyExists("told so")

    with pytest.raises(AlreadyExists, match="told so"):
        opened(tmp_path, {}, factory=refuse)


def test_factory_must_make_a_driver(tmp_path: Path) -> None:
    with pytest.raises(DriverError, match="made a RecordingNetwork, which lacks methods of a driver"):
        opened(tmp_path, {}, factory=lambda state, options: RecordingNetwork())


def test_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file")
    with pytest.raises(Unavailable, match=r"cannot make .*root/storage/fake"):
        opened(tmp_path, {})


def test_network_driver_is_opened_too(tmp_path: Path) -> None:
    specs = [spec("n", factory=lambda state, options: RecordingNetwork())]
    plugins = load([("x", plugin(plugrun_network_drivers=lambda: specs))], group=None)
    assert isinstance(plugins.open_network(plugins.network["n"], tmp_path, {}), RecordingNetwork)
    assert (tmp_path / "network/n").is_dir()
