"""Finding credentials in the files of docker and podman."""

from __future__ import annotations

import base64
import json

import pytest

from plugrun.errors import InvalidArgument, Unavailable
from plugrun.registry import credentials
from plugrun.registry.credentials import CredentialStore
from plugrun.registry.endpoint import Credential
from registry.entries import entry

pytestmark = pytest.mark.usefixtures("home")

HUB = "https://index.docker.io/v1/"


def test_nobody_is_known_without_a_file():
    assert CredentialStore().get("docker.io") is None


def test_an_empty_file_has_nothing(docker_config):
    docker_config("")
    assert CredentialStore().get("docker.io") is None


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        (HUB, "docker.io"),
        ("docker.io", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("a.com", "a.com"),
        ("a.com:5000", "a.com:5000"),
        ("https://a.com", "a.com"),
        ("http://a.com/", "a.com"),
        ("https://a.com/v1/", "a.com"),
        ("https://a.com:5000/v2/", "a.com:5000"),
        ("a.com/v2", "a.com"),
    ],
)
def test_a_registry_is_found_by_each_of_dockers_spellings(docker_config, key, registry):
    docker_config({"auths": {key: entry("ada", "1")}})
    assert CredentialStore().get(registry) == Credential("ada", "1")


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("a.com", "evil-a.com"),
        ("a.com", "b.a.com"),
        ("b.a.com", "a.com"),
        ("a.com", "a.com.evil.net"),
        ("a.com", "a.com:5000"),
        ("a.com:5000", "a.com"),
        ("a.com/team", "a.com"),
        ("https://a.com/v3/", "a.com"),
        ("a.com/v1/team", "a.com"),
        (HUB, "registry-1.docker.io"),
        ("evil.net/https://a.com", "a.com"),
    ],
)
def test_no_other_registry_gets_it(docker_config, key, registry):
    docker_config({"auths": {key: entry("ada", "1"), "control.com": entry("ada", "2")}})
    assert CredentialStore().get(registry) is None
    assert CredentialStore().get("control.com") == Credential("ada", "2")


def test_dockers_own_spelling_comes_first(docker_config):
    docker_config(
        {"auths": {"https://a.com/v1/": entry("old", "1"), "a.com": entry("new", "2"), "http://a.com": entry("x", "3")}}
    )
    assert CredentialStore().get("a.com") == Credential("new", "2")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (entry("ada", "a:b"), Credential("ada", "a:b")),
        (entry("ada", "b\0\0"), Credential("ada", "b")),
        (entry("ada", "", identitytoken="t"), Credential("ada", "", "t")),
        ({"identitytoken": "t"}, Credential("", "", "t")),
        ({"username": "ada", "password": "b"}, Credential("ada", "b")),
        ({}, None),
        ({"auth": ""}, None),
        (None, None),
    ],
)
def test_what_an_entry_says(docker_config, content, expected):
    docker_config({"auths": {"a.com": content}})
    assert CredentialStore().get("a.com") == expected


def test_docker_config_names_the_directory(docker_config, tmp_path, monkeypatch):
    docker_config({"auths": {"a.com": entry("ada", "1")}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"auths": {"a.com": entry("bob", "2")}}))
    assert CredentialStore().get("a.com") == Credential("ada", "1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "other"))
    assert CredentialStore().get("a.com") == Credential("bob", "2")


def test_podmans_file_is_asked_last(docker_config, tmp_path, monkeypatch):
    path = tmp_path / "run" / "containers" / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"a.com": entry("pod", "1"), "docker.io": entry("pod", "2")}}))
    docker_config({"auths": {"a.com": entry("ada", "1")}})
    store = CredentialStore()
    assert (store.get("a.com"), store.get("docker.io")) == (Credential("ada", "1"), Credential("pod", "2"))
    assert (credentials.podman_file("a.com"), credentials.podman_file("b.com")) == (path, None)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "absent"))
    assert store.get("docker.io") is None
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    assert store.get("docker.io") == Credential("pod", "2")


DAMAGED = [
    ("{", "is not valid JSON"),
    ("[]", "is not a JSON object"),
    ('{"auths": [], "x": 1}', "auths is not an object"),
    ('{"auths": {}, "auths": {}}', "appears twice"),
]


@pytest.mark.parametrize(("text", "reason"), DAMAGED)
def test_a_damaged_file_is_refused_and_left_as_it_is(docker_config, text, reason):
    path = docker_config(text)
    store = CredentialStore()
    for change in (
        lambda: store.get("a.com"),
        lambda: store.store("a.com", Credential("ada", "1")),
        lambda: store.erase("a.com"),
    ):
        with pytest.raises(InvalidArgument, match=reason) as caught:
            change()
        assert str(path) in str(caught.value)
        assert "move it away" in caught.value.hint
    assert path.read_text() == text


@pytest.mark.parametrize(
    "auth", ["%%%", base64.b64encode(b"nocolon").decode(), base64.b64encode(b"a:\xff").decode(), "YTpi\nYTpi"]
)
def test_a_damaged_entry_is_no_credential_and_is_not_shown(docker_config, auth):
    docker_config({"auths": {"a.com": {"auth": auth}}})
    with pytest.raises(InvalidArgument, match=r"a\.com of auths of .*config\.json: auth is not") as caught:
        CredentialStore().get("a.com")
    assert auth not in str(caught.value)


def test_a_file_that_cannot_be_read_says_so(home):
    (home / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot read the credentials in"):
        CredentialStore().get("a.com")


def test_no_secret_is_shown():
    assert "pass" not in repr(Credential("ada", "pass"))
    assert "refresh" not in repr(Credential("", "", "refresh"))
