"""Credentials in the files and the helpers of docker and podman."""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from plugrun import locks
from plugrun.errors import DriverError, InvalidArgument, Unavailable
from plugrun.registry import credentials
from plugrun.registry.credentials import CredentialStore
from plugrun.registry.endpoint import Credential
from plugrun.registry.helper import Helper

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


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, with nothing in it."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path / "home"


@pytest.fixture
def config(home):
    """Write ``~/.docker/config.json``; return its path."""

    def write(content):
        path = home / ".docker" / "config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


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


def entry(username, password, **more):
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode(), **more}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# --- Reading -------------------------------------------------------------------------------------------------


def test_nobody_is_known_without_a_file():
    assert CredentialStore().get("docker.io") is None


def test_an_empty_file_has_nothing(config):
    config("")
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
def test_a_registry_is_found_by_each_of_dockers_spellings(config, key, registry):
    config({"auths": {key: entry("ada", "1")}})
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
def test_no_other_registry_gets_it(config, key, registry):
    config({"auths": {key: entry("ada", "1"), "control.com": entry("ada", "2")}})
    assert CredentialStore().get(registry) is None
    assert CredentialStore().get("control.com") == Credential("ada", "2")


def test_dockers_own_spelling_comes_first(config):
    config(
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
def test_what_an_entry_says(config, content, expected):
    config({"auths": {"a.com": content}})
    assert CredentialStore().get("a.com") == expected


def test_docker_config_names_the_directory(config, tmp_path, monkeypatch):
    config({"auths": {"a.com": entry("ada", "1")}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"auths": {"a.com": entry("bob", "2")}}))
    assert CredentialStore().get("a.com") == Credential("ada", "1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "other"))
    assert CredentialStore().get("a.com") == Credential("bob", "2")


def test_podmans_file_is_asked_last(config, tmp_path, monkeypatch):
    path = tmp_path / "run" / "containers" / "auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"a.com": entry("pod", "1"), "docker.io": entry("pod", "2")}}))
    config({"auths": {"a.com": entry("ada", "1")}})
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
def test_a_damaged_file_is_refused_and_left_as_it_is(config, text, reason):
    path = config(text)
    store = CredentialStore()
    for change in (lambda: store.get("a.com"), lambda: store.store("a.com", ADA), lambda: store.erase("a.com")):
        with pytest.raises(InvalidArgument, match=reason) as caught:
            change()
        assert str(path) in str(caught.value)
        assert "move it away" in caught.value.hint
    assert path.read_text() == text


@pytest.mark.parametrize(
    "auth", ["%%%", base64.b64encode(b"nocolon").decode(), base64.b64encode(b"a:\xff").decode(), "YTpi\nYTpi"]
)
def test_a_damaged_entry_is_no_credential_and_is_not_shown(config, auth):
    config({"auths": {"a.com": {"auth": auth}}})
    with pytest.raises(InvalidArgument, match=r"a\.com of auths of .*config\.json: auth is not") as caught:
        CredentialStore().get("a.com")
    assert auth not in str(caught.value)


def test_a_file_that_cannot_be_read_says_so(home):
    (home / ".docker" / "config.json").mkdir(parents=True)
    with pytest.raises(Unavailable, match="cannot read the credentials in"):
        CredentialStore().get("a.com")


def test_no_secret_is_shown():
    assert "pass" not in repr(ADA)
    assert "refresh" not in repr(TOKEN)


# --- Writing -------------------------------------------------------------------------------------------------


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


def test_what_others_keep_there_stays(config):
    path = config({"proxies": {"default": {"x": "\u00e9"}}, "auths": {"b.com": entry("bob", "2")}, "credsStore": ""})
    path.chmod(0o644)
    CredentialStore().store("a.com", ADA)
    content = json.loads(path.read_text())
    assert content["proxies"] == {"default": {"x": "\u00e9"}}
    assert set(content["auths"]) == {"a.com", "b.com"}
    assert mode(path) == 0o600
    CredentialStore().erase("a.com")
    assert json.loads(path.read_text())["auths"] == {"b.com": entry("bob", "2")}


def test_no_auths_may_be_null(config):
    config({"auths": None})
    assert CredentialStore().erase("a.com") is False
    CredentialStore().store("a.com", ADA)
    assert CredentialStore().get("a.com") == ADA


def test_every_spelling_is_replaced_and_erased(config):
    path = config({"auths": {"https://a.com/v1/": entry("old", "1"), "http://a.com": entry("old", "2"), "b.com": {}}})
    CredentialStore().store("a.com", Credential("new", "3"))
    assert list(json.loads(path.read_text())["auths"]) == ["b.com", "a.com"]
    path = config({"auths": {"https://a.com/v1/": entry("old", "1"), "a.com": entry("new", "2"), "b.com": {}}})
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


def test_what_a_killed_process_left_is_in_nobodys_way(config, tmp_path):
    path = config({})
    (path.parent / ".config.json.new").symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("victim")
    CredentialStore().store("a.com", ADA)
    assert (tmp_path / "victim").read_text() == "victim"
    assert CredentialStore().get("a.com") == ADA
    assert sorted(item.name for item in path.parent.iterdir()) == [".config.json.lock", "config.json"]


def test_it_is_never_written_to_what_somebody_else_made(config, tmp_path, monkeypatch):
    path = config({})
    (path.parent / ".config.json.new").symlink_to(tmp_path / "victim")
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)  # somebody who is quicker than we are
    with pytest.raises(Unavailable, match=r"cannot write .*config\.json: File exists"):
        CredentialStore().store("a.com", ADA)
    assert not (tmp_path / "victim").exists()


def test_a_change_that_fails_leaves_the_file_as_it_was(config, monkeypatch):
    path = config({"auths": {"a.com": entry("ada", "1")}})
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"cannot write .*config\.json: No space left on device"):
        CredentialStore().store("a.com", ADA)
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == [".config.json.lock", "config.json"]


def test_writers_wait_for_each_other(config):
    path = config({})
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
def test_the_owner_stays_the_same(config):
    path = config({})
    os.chown(path, 1234, 1235)
    CredentialStore().store("a.com", ADA)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)


def test_a_user_name_has_no_colon(home):
    with pytest.raises(InvalidArgument, match="'a:b' has a colon"):
        CredentialStore().store("a.com", Credential("a:b", "c"))
    assert not home.exists()


# --- Helpers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("credential", [ADA, TOKEN])
@pytest.mark.parametrize("registry", ["docker.io", "a.com:5000"])
@pytest.mark.parametrize(
    "chosen", [{"credsStore": "files"}, {"credHelpers": {"docker.io": "files", "a.com:5000": "files"}}]
)
def test_a_helper_keeps_it_and_the_file_does_not(config, kept, registry, credential, chosen):
    path = config(chosen)
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


def test_a_registry_may_have_a_helper_of_its_own(config, kept):
    config({"credHelpers": {"a.com": "files"}, "auths": {"a.com": entry("file", "1"), "b.com": entry("file", "2")}})
    assert (CredentialStore().get("a.com"), CredentialStore().get("b.com")) == (None, Credential("file", "2"))
    assert CredentialStore().store("c.com", ADA) is False
    assert (kept / "asked").read_text() == "get a.com\n"


@pytest.mark.parametrize("name", ["../files", "files/../files", "Files", "fi les", "files\n", "\u00e9"])
def test_a_helper_is_named_by_a_plain_word(config, kept, name):
    path = config({"credsStore": name})
    with pytest.raises(InvalidArgument, match=r"config\.json: .* is no name of a credential helper") as caught:
        CredentialStore().get("a.com")
    assert str(path) in str(caught.value)
    assert not (kept / "asked").exists()


def test_a_helper_must_be_installed_in_an_absolute_directory(config, kept, tmp_path, monkeypatch):
    config({"credsStore": "files"})
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
def test_a_helper_that_fails_is_named(config, programs, script, reason):
    config({"credsStore": "bad"})
    programs("docker-credential-bad", f"#!/bin/sh\n{script}\n")
    with pytest.raises(DriverError, match=reason) as caught:
        CredentialStore().get("a.com")
    assert len(str(caught.value)) < 300
    assert "secret" not in str(caught.value)


def test_a_login_is_not_stored_when_the_helper_fails(config, programs):
    path = config({"credsStore": "bad"})
    programs("docker-credential-bad", "#!/bin/sh\nexit 1\n")
    with pytest.raises(DriverError, match="failed to store"):
        CredentialStore().store("a.com", ADA)
    assert json.loads(path.read_text()) == {"credsStore": "bad"}


def test_an_empty_secret_is_none(config, programs):
    config({"credsStore": "empty"})
    programs("docker-credential-empty", '#!/bin/sh\necho \'{"Username": "ada", "Secret": ""}\'\n')
    assert CredentialStore().get("a.com") is None


def test_a_helper_has_only_so_much_time(programs, tmp_path):
    programs("docker-credential-slow", "#!/bin/sh\nexec sleep 60\n")
    helper = Helper("slow", "config.json", timeout=0.2)
    with pytest.raises(DriverError, match=r"docker-credential-slow did not end within 0\.2 seconds"):
        helper.get("a.com")
