"""Writing credentials into docker's file, which others write as well."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from plugrun import locks
from plugrun.errors import InvalidArgument, Unavailable
from plugrun.registry.credentials import CredentialStore
from plugrun.registry.endpoint import Credential
from registry.entries import entry

pytestmark = pytest.mark.usefixtures("home")

ADA = Credential("ada", "pass:word \u00e9")
TOKEN = Credential("", "", "refresh-token")
HUB = "https://index.docker.io/v1/"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("registry", ["docker.io", "a.com:5000"])
@pytest.mark.parametrize("credential", [ADA, TOKEN, Credential("ada", "", "t")])
def test_what_was_stored_is_found_and_then_erased(registry, credential):
    store = CredentialStore()
    assert store.store(registry, credential) is False
    assert store.get(registry) == credential
    assert store.get("b.com") is None
    assert store.erase(registry) is True
    assert (store.get(registry), store.erase(registry)) == (None, False)


def test_it_is_stored_as_docker_stores_it():
    store = CredentialStore()
    store.store("docker.io", Credential("ada", "1"))
    store.store("a.com", Credential("bob", "2"))
    assert json.loads(store.file.read_text()) == {"auths": {HUB: entry("ada", "1"), "a.com": entry("bob", "2")}}


def test_only_the_owner_can_read_it_whatever_the_umask(home):
    old = os.umask(0)
    try:
        CredentialStore().store("a.com", ADA)
    finally:
        os.umask(old)
    assert [mode(home / ".docker" / name) for name in ("config.json", ".config.json.lock")] == [0o600, 0o600]
    assert mode(home / ".docker") == 0o700
    old = os.umask(0o777)
    try:
        CredentialStore().store("b.com", ADA)
    finally:
        os.umask(old)
    assert mode(home / ".docker/config.json") == 0o600


def test_what_others_keep_there_stays(docker_config):
    path = docker_config(
        {"proxies": {"default": {"x": "\u00e9"}}, "auths": {"b.com": entry("bob", "2")}, "credsStore": ""}
    )
    path.chmod(0o644)
    CredentialStore().store("a.com", ADA)
    content = json.loads(path.read_text())
    assert content["proxies"] == {"default": {"x": "\u00e9"}}
    assert set(content["auths"]) == {"a.com", "b.com"}
    assert mode(path) == 0o600
    CredentialStore().erase("a.com")
    assert json.loads(path.read_text())["auths"] == {"b.com": entry("bob", "2")}


def test_no_auths_may_be_null(docker_config):
    docker_config({"auths": None})
    assert CredentialStore().erase("a.com") is False
    CredentialStore().store("a.com", ADA)
    assert CredentialStore().get("a.com") == ADA


def test_every_spelling_is_replaced_and_erased(docker_config):
    path = docker_config(
        {"auths": {"https://a.com/v1/": entry("old", "1"), "http://a.com": entry("old", "2"), "b.com": {}}}
    )
    CredentialStore().store("a.com", Credential("new", "3"))
    assert list(json.loads(path.read_text())["auths"]) == ["b.com", "a.com"]
    path = docker_config({"auths": {"https://a.com/v1/": entry("old", "1"), "a.com": entry("new", "2"), "b.com": {}}})
    assert CredentialStore().erase("a.com") is True
    assert list(json.loads(path.read_text())["auths"]) == ["b.com"]


def test_a_link_stays_one(home, tmp_path):
    (home / ".docker").mkdir(parents=True)
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "docker.json").write_text("{}")
    (home / ".docker" / "config.json").symlink_to("../../dotfiles/docker.json")
    CredentialStore().store("a.com", ADA)
    assert (home / ".docker" / "config.json").is_symlink()
    assert "a.com" in (tmp_path / "dotfiles" / "docker.json").read_text()
    assert mode(tmp_path / "dotfiles" / "docker.json") == 0o600


def test_what_a_killed_process_left_is_in_nobodys_way(docker_config, tmp_path):
    path = docker_config({})
    (path.parent / ".config.json.new").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("victim")
    CredentialStore().store("a.com", ADA)
    assert (tmp_path / "victim").read_text() == "victim"
    assert CredentialStore().get("a.com") == ADA
    assert sorted(item.name for item in path.parent.iterdir()) == [".config.json.lock", "config.json"]


def test_it_is_never_written_to_what_somebody_else_made(docker_config, tmp_path, monkeypatch):
    path = docker_config({})
    (path.parent / ".config.json.new").symlink_to(tmp_path / "victim")
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)  # somebody who is quicker than we are
    with pytest.raises(Unavailable, match=r"cannot write .*config\.json: File exists"):
        CredentialStore().store("a.com", ADA)
    assert not (tmp_path / "victim").exists()


def test_a_change_that_fails_leaves_the_file_as_it_was(docker_config, monkeypatch):
    path = docker_config({"auths": {"a.com": entry("ada", "1")}})
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"cannot write .*config\.json: No space left on device"):
        CredentialStore().store("a.com", ADA)
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == [".config.json.lock", "config.json"]


def test_writers_wait_for_each_other(docker_config):
    path = docker_config({})
    stored = threading.Event()

    def store():
        CredentialStore().store("a.com", ADA)
        stored.set()

    writer = threading.Thread(target=store)
    with locks.held(path.parent / ".config.json.lock", what="it"):
        writer.start()
        assert not stored.wait(0.2)
        path.write_text('{"x": 1}')  # what the other one writes is not lost
    writer.join()
    assert set(json.loads(path.read_text())) == {"x", "auths"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays_the_same(docker_config):
    path = docker_config({})
    os.chown(path, 1234, 1235)
    CredentialStore().store("a.com", ADA)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_user_name_has_no_colon(home):
    with pytest.raises(InvalidArgument, match="'a:b' has a colon"):
        CredentialStore().store("a.com", Credential("a:b", "c"))
    assert not home.exists()
