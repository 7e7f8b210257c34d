"""Credential helpers: real programs, good and bad."""

from __future__ import annotations

import json
import os
import sys

import pytest

from plugrun.errors import DriverError, InvalidArgument, Unavailable
from plugrun.registry.credentials import CredentialStore
from plugrun.registry.endpoint import Credential
from plugrun.registry.helper import Helper
from registry.entries import entry

pytestmark = pytest.mark.usefixtures("home")

ADA = Credential("ada", "pass:word \u00e9")
TOKEN = Credential("", "", "refresh-token")
HUB = "https://index.docker.io/v1/"

# Keeps what it is given in files, as docker-credential-pass does; says who asked for what.
HELPER = f"""#!{sys.executable} -I
import json, os, sys, urllib.parse
action, text = sys.argv[1], sys.stdin.read()
place = os.environ["KEPT"]
with open(place + "/asked", "a") as log:
    log.write(action + " " + (json.loads(text)["ServerURL"] if action == "store" else text) + "\\n")
def path(server):
    return place + "/" + urllib.parse.quote(server, safe="")
if action == "store":
    open(path(json.loads(text)["ServerURL"]), "w").write(text)
elif not os.path.exists(path(text)):
    print("credentials not found in native keychain")
    sys.exit(1)
elif action == "get":
    print(open(path(text)).read())
elif action == "erase":
    os.unlink(path(text))
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put programs on ``PATH``, before all others."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def add(name, text):
        (place / name).write_text(text)
        (place / name).chmod(0o755)

    return add


@pytest.fixture
def kept(programs, tmp_path, monkeypatch):
    """A working helper named ``files``; returns the directory of what it keeps."""
    programs("docker-credential-files", HELPER)
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.parametrize("credential", [ADA, TOKEN])
@pytest.mark.parametrize("registry", ["docker.io", "a.com:5000"])
@pytest.mark.parametrize(
    "chosen", [{"credsStore": "files"}, {"credHelpers": {"docker.io": "files", "a.com:5000": "files"}}]
)
def test_a_helper_keeps_it_and_the_file_does_not(docker_config, kept, registry, credential, chosen):
    path = docker_config(chosen)
    store = CredentialStore()
    assert store.store(registry, credential) is True
    key = HUB if registry == "docker.io" else registry
    assert json.loads(path.read_text())["auths"] == {key: {}}
    assert store.get(registry) == credential
    assert store.get("b.com") is None
    assert store.erase(registry) is True
    assert (store.get(registry), store.erase(registry)) == (None, False)
    assert json.loads(path.read_text()) == {**chosen, "auths": {}}
    assert {f"store {key}", f"get {key}", f"erase {key}"} <= set((kept / "asked").read_text().splitlines())


def test_a_registry_may_have_a_helper_of_its_own(docker_config, kept):
    docker_config(
        {"credHelpers": {"a.com": "files"}, "auths": {"a.com": entry("file", "1"), "b.com": entry("file", "2")}}
    )
    assert (CredentialStore().get("a.com"), CredentialStore().get("b.com")) == (None, Credential("file", "2"))
    assert CredentialStore().store("c.com", ADA) is False
    assert (kept / "asked").read_text() == "get a.com\n"


@pytest.mark.parametrize("name", ["../files", "files/../files", "Files", "fi les", "files\n", "\u00e9"])
def test_a_helper_is_named_by_a_plain_word(docker_config, kept, name):
    path = docker_config({"credsStore": name})
    with pytest.raises(InvalidArgument, match=r"config\.json: .* is no name of a credential helper") as caught:
        CredentialStore().get("a.com")
    assert str(path) in str(caught.value)
    assert not (kept / "asked").exists()


def test_a_helper_must_be_installed_in_an_absolute_directory(docker_config, kept, tmp_path, monkeypatch):
    docker_config({"credsStore": "files"})
    assert CredentialStore().get("a.com") is None  # the control
    monkeypatch.chdir(tmp_path / "bin")
    for path in ("/nowhere", ".", "", str(tmp_path)):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(Unavailable, match="docker-credential-files is not installed") as caught:
            CredentialStore().get("a.com")
        assert "config.json" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'the keychain is locked'; echo more; exit 1",
            "docker-credential-bad failed to get: the keychain is locked$",
        ),
        ("echo broken >&2; exit 3", "docker-credential-bad failed to get: broken$"),
        ("exit 3", "docker-credential-bad failed to get: exit code 3$"),
        ("kill -9 $$", "docker-credential-bad failed to get: exit code -9$"),
        ("echo '{\"Secret\": 5}'", "answer of docker-credential-bad: Secret is not text"),
        ("echo secret", "answer of docker-credential-bad is not valid JSON"),
        ("echo '[]'", "answer of docker-credential-bad is not a JSON object"),
        ("yes '{' | head -c 3000000", "answer of docker-credential-bad is not valid JSON"),
        ("printf '\\377'", "answer of docker-credential-bad is not valid JSON"),
    ],
)
def test_a_helper_that_fails_is_named(docker_config, programs, script, reason):
    docker_config({"credsStore": "bad"})
    programs("docker-credential-bad", f"#!/bin/sh\n{script}\n")
    with pytest.raises(DriverError, match=reason) as caught:
        CredentialStore().get("a.com")
    assert len(str(caught.value)) < 300
    assert "secret" not in str(caught.value)


def test_a_login_is_not_stored_when_the_helper_fails(docker_config, programs):
    path = docker_config({"credsStore": "bad"})
    programs("docker-credential-bad", "#!/bin/sh\nexit 1\n")
    with pytest.raises(DriverError, match="failed to store"):
        CredentialStore().store("a.com", ADA)
    assert json.loads(path.read_text()) == {"credsStore": "bad"}


def test_an_empty_secret_is_none(docker_config, programs):
    docker_config({"credsStore": "empty"})
    programs("docker-credential-empty", '#!/bin/sh\necho \'{"Username": "ada", "Secret": ""}\'\n')
    assert CredentialStore().get("a.com") is None


def test_a_helper_has_only_so_much_time(programs, tmp_path):
    programs("docker-credential-slow", "#!/bin/sh\nexec sleep 60\n")
    helper = Helper("slow", "config.json", timeout=0.2)
    with pytest.raises(DriverError, match=r"docker-credential-slow did not end within 0\.2 seconds"):
        helper.get("a.com")
