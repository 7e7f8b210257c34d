"""Every hook is documented, called as its documentation says, and tested here."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from fakes import plugin, spec
from plugrun import hookspecs, manager
from plugrun.api import (
    ContainerDraft,
    ContainerView,
    DriverError,
    Event,
    InvalidArgument,
    NetworkRequest,
    NotFound,
    hookimpl,
)
from plugrun.manager import load
from sites import found, fresh_site, install

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/nonexistent")


VIEW = ContainerView(id="0" * 64, name="web", image="busybox", storage="fake", network="fake", labels={})


@pytest.fixture(autouse=True)
def forgiving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLUGRUN_STRICT", raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from fresh_site(tmp_path, monkeypatch)


def draft() -> ContainerDraft:
    return ContainerDraft("web", "busybox", ["sh"], [], {}, "web", "/", "")


# --- About the hooks themselves ---


HOOKS = {name: function for name, function in vars(hookspecs).items() if name.startswith("plugrun_")}


def test_there_are_few_hooks() -> None:
    assert len(HOOKS) == 7


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_tested(name: str) -> None:
    assert f"test_hook_{name.removeprefix('plugrun_')}" in globals()


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name: str) -> None:
    signature = inspect.signature(HOOKS[name])
    text = " ".join((inspect.getdoc(HOOKS[name]) or "").split())
    if reference := re.search(r"as in :func:`(\w+)`", text):
        text += " ".join((inspect.getdoc(HOOKS[reference[1]]) or "").split())
    for word in ("Called", "xception", "Not called"):
        assert word in text, f"{name} does not say when it is called, or what an exception does"
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        assert f":param {parameter.name}:" in text, f"{name} leaves out {parameter.name}"
    if "None" not in str(signature.return_annotation):
        assert ":return:" in text
    if HOOKS[name].plugrun_spec["firstresult"]:
        assert "``None`` means" in text


def test_every_hook_is_called_by_the_engine() -> None:
    source = inspect.getsource(manager)
    for name in HOOKS:
        kind = name.removeprefix("plugrun_").removesuffix("_drivers")
        assert name in source or kind in {"storage", "network"}


def test_reading_the_hooks_costs_nothing() -> None:
    code = "import sys, plugrun.hookspecs; print(*({'typer', 'pydantic', 'click', 'rich'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.split() == []


# --- Each hook, through the manager ---


def test_hook_storage_drivers() -> None:
    plugins = load([("a", plugin(plugrun_storage_drivers=lambda: iter([spec("one"), spec("two")])))], group=None)
    assert list(plugins.storage) == ["one", "two"]
    assert dict(plugins.network) == {}


def test_hook_network_drivers() -> None:
    plugins = load([("a", plugin(plugrun_network_drivers=lambda: (spec("one"),)))], group=None)
    assert list(plugins.network) == ["one"]
    assert dict(plugins.storage) == {}


def test_hook_commands() -> None:
    def add(app: typer.Typer) -> None:
        @app.command()
        def hello() -> None:
            """Say hello."""

    app = typer.Typer()
    load([("a", plugin(plugrun_commands=add))], group=None).add_commands(app)
    assert [command.callback.__name__ for command in app.registered_commands if command.callback] == ["hello"]


def test_hook_prepare_config() -> None:
    def label(draft: ContainerDraft) -> None:
        draft.labels["seen"] = "yes"

    def again(draft: ContainerDraft) -> None:
        draft.env.append(f"SEEN={draft.labels['seen']}")

    edited = draft()
    load(
        [("a", plugin(plugrun_prepare_config=label)), ("b", plugin(plugrun_prepare_config=again))], group=None
    ).prepare_config(edited)
    assert (edited.labels, edited.env) == ({"seen": "yes"}, ["SEEN=yes"])


def test_hook_amend_spec() -> None:
    def amend(container: ContainerView, spec: dict[str, Any]) -> None:
        spec["hostname"] = container.name

    config: dict[str, Any] = {}
    load([("a", plugin(plugrun_amend_spec=amend))], group=None).amend_spec(VIEW, config)
    assert config == {"hostname": "web"}


def test_hook_parse_network(site: Path) -> None:
    for name in ("b", "a", "c"):
        source = f"@hookimpl\ndef plugrun_parse_network(value):\n    return NetworkRequest('{name}', value)\n"
        install(
            site,
            f"acme-{name}",
            {name: f"acme_{name}"},
            source if name != "a" else source.replace("value)\n", "value) if value == 'mine' else None\n"),
        )
    assert found().parse_network("mine") == NetworkRequest("a", "mine")
    assert found().parse_network("other") == NetworkRequest("b", "other")


def test_claim_cannot_take_a_driver_s_name() -> None:
    thief = plugin(plugrun_parse_network=lambda value: NetworkRequest("thief", value))
    drivers = plugin(plugrun_network_drivers=lambda: [spec("host")])
    plugins = load([("a", thief), ("b", drivers)], group=None)
    assert plugins.parse_network("host") == NetworkRequest("host")
    assert plugins.parse_network("hosts") == NetworkRequest("thief", "hosts")


def test_unclaimed_network_lists_drivers() -> None:
    plugins = load([("b", plugin(plugrun_network_drivers=lambda: [spec("host")]))], group=None)
    request = plugins.parse_network("mynet")
    with pytest.raises(NotFound, match="no network driver 'mynet' is installed") as refused:
        plugins.select_network(request.driver, ROOT)
    assert refused.value.hint == "installed: host"


def test_wrong_claims_are_errors() -> None:
    with pytest.raises(InvalidArgument, match="empty"):
        load(group=None).parse_network("")
    plugins = load([("a", plugin(plugrun_parse_network=lambda value: "host"))], group=None)
    with pytest.raises(DriverError, match=r"plugrun_parse_network of plugin 'a' .*answered 'host' instead"):
        plugins.parse_network("x")


def test_failing_shaping_hook_aborts_and_names_the_plugin() -> None:
    def refuse(draft: ContainerDraft) -> None:
        raise InvalidArgument("not on Sundays")

    def crash(container: ContainerView) -> None:
        raise ValueError("boom")

    plugins = load([("a", plugin(plugrun_prepare_config=refuse, plugrun_amend_spec=crash))], group=None)
    with pytest.raises(InvalidArgument, match="not on Sundays"):
        plugins.prepare_config(draft())
    with pytest.raises(DriverError, match=r"plugrun_amend_spec of plugin 'a' .*failed: ValueError: boom"):
        plugins.amend_spec(VIEW, {})


def test_hook_container_event() -> None:
    heard: list[str] = []
    warned: list[str] = []

    def crash() -> None:
        raise ValueError("boom")

    def refuse(event: Event) -> None:
        raise InvalidArgument("no")

    plugins = load(
        [
            ("a", plugin(plugrun_container_event=crash)),
            ("b", plugin(plugrun_container_event=refuse)),
            ("c", plugin(plugrun_container_event=lambda event, container: heard.append(f"{event} {container.name}"))),
        ],
        group=None,
        warn=warned.append,
    )
    plugins.notify(Event.STARTED, VIEW)
    assert heard == ["start web"]
    assert warned == ["plugrun_container_event of plugin 'a' (this process) failed: ValueError: boom", "no"]


def test_warnings_are_python_s_unless_told_otherwise() -> None:
    plugins = load([("a", plugin(plugrun_commands=lambda: 1 / 0))], group=None)
    with pytest.warns(RuntimeWarning, match="division by zero"):
        plugins.add_commands(None)  # type: ignore[arg-type]


def test_order_of_plugins_and_first_and_last() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    class First(Named):
        @hookimpl(tryfirst=True)
        def plugrun_prepare_config(self) -> None:
            order.append(self.name)

    class Plain(Named):
        @hookimpl
        def plugrun_prepare_config(self) -> None:
            order.append(self.name)

    class Last(Named):
        @hookimpl(trylast=True)
        def plugrun_prepare_config(self) -> None:
            order.append(self.name)

    listed = [Last("last"), Plain("one"), Plain("two"), First("first")]
    load([(one.name, one) for one in listed], group=None).prepare_config(draft())
    assert order == ["first", "one", "two", "last"]
