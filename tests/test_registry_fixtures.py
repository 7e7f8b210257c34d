"""The real registry that tests talk to: what skopeo, a stranger to all of this, can and cannot do with it."""

from __future__ import annotations

import subprocess

import pytest

from fixtures.registry import serve
from fixtures.tokens import PULL
from fixtures.tools import skopeo

pytestmark = pytest.mark.root


KINDS = ["registry", "basic_registry", "shared_token_registry", "plain_registry"]


@pytest.fixture(scope="session", params=KINDS)  # started before the leak check of the first test that wants it
def any_registry(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["basic_registry", "shared_token_registry"])
def shut_registry(request):
    return request.getfixturevalue(request.param)


def refusal(*argv: str) -> str:
    done = subprocess.run(["skopeo", "--insecure-policy", *argv], capture_output=True, text=True, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_what_is_pushed_can_be_pulled(any_registry, busybox_archive, tmp_path):
    name = any_registry.push(busybox_archive, "round/trip:v1")
    skopeo("copy", "-q", *any_registry.credentials("src-"), f"docker://{name}", f"dir:{tmp_path / 'pulled'}")
    digest = any_registry.digest("round/trip:v1")
    assert any_registry.blob(digest).read_bytes() == (tmp_path / "pulled" / "manifest.json").read_bytes()
    assert ("GET", "/v2/round/trip/manifests/v1", 200) in any_registry.requests()


def test_requests_are_all_there_at_once(registry):
    before = len(registry.requests())
    for number in range(20):
        assert registry.curl(f"/v2/nothing/manifests/{number}")[0] == 404
        assert registry.requests()[before + number] == ("GET", f"/v2/nothing/manifests/{number}", 404)


def test_the_door_is_shut_to_those_without_the_password(shut_registry):
    image = f"docker://{shut_registry.name('shut')}"
    trust = ["--cert-dir", str(shut_registry.cert_dir)]
    wrong = refusal("inspect", *trust, "--creds", f"{shut_registry.username}:wrong", image)
    assert "unauthorized" in wrong or "invalid username/password" in wrong
    nobody = refusal("inspect", *trust, "--no-creds", image)
    assert "unauthorized" in nobody or "denied" in nobody
    assert "unknown" in refusal("inspect", *shut_registry.credentials(), image)


def test_only_those_who_trust_the_authority_connect(registry, tmp_path):
    image = f"docker://{registry.name('nothing')}"
    assert "certificate signed by unknown authority" in refusal("inspect", "--cert-dir", str(tmp_path), image)
    assert "manifest unknown" in refusal("inspect", *registry.credentials(), image)


def test_rights_are_per_repository(token_registry, busybox_archive):
    tokens = token_registry.tokens
    name = token_registry.push(busybox_archive, "rights/one:v1")
    tokens.rights["rights/one"] = PULL
    skopeo("inspect", *token_registry.credentials(), f"docker://{name}")
    push = ["copy", *token_registry.credentials("dest-"), f"docker-archive:{busybox_archive}", f"docker://{name}"]
    assert "denied" in refusal(*push)
    tokens.rights["rights/one"] = frozenset()
    assert "denied" in refusal("inspect", *token_registry.credentials(), f"docker://{name}")


def test_nobody_in_particular_may_pull_what_is_public(token_registry, busybox_archive):
    name = token_registry.push(busybox_archive, "public/one:v1")
    anonymous = ["inspect", "--cert-dir", str(token_registry.cert_dir), "--no-creds", f"docker://{name}"]
    assert "denied" in refusal(*anonymous)
    token_registry.tokens.anonymous["public/one"] = PULL
    skopeo(*anonymous)


def test_a_token_that_is_over_is_refused(token_registry, busybox_archive):
    name = token_registry.push(busybox_archive, "over/one:v1")
    token_registry.tokens.lifetime = 0
    refusal("inspect", *token_registry.credentials(), f"docker://{name}")
    token_registry.tokens.reset()
    skopeo("inspect", *token_registry.credentials(), f"docker://{name}")


def test_a_registry_of_ones_own(tmp_path, authority, certificate, host_names):
    with serve(tmp_path, authority, certificate, http={"addr": "127.0.0.1:0"}) as own:
        own.ca = None  # the configuration given replaces that section, and TLS with it
        assert own.curl("/v2/")[0] == 200
    assert own.process.poll() is not None
