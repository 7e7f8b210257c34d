"""Registries and who is between: nothing without TLS, no secret to anybody but its owner, nobody asked for nothing."""

from __future__ import annotations

import base64
import json

import pytest

from e2e.pulls import assert_failed, fresh, kept
from fixtures.stub import Reply, bearer
from images import archives, odd

pytestmark = pytest.mark.root

USERNAME, PASSWORD = "ada", "a secret: of ada"
BASIC = "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
METADATA = "169.254.169.254"  # where clouds hand out credentials


@pytest.fixture
def secretive(plugrun, stub, elsewhere, trusting, tmp_path):
    """Pull from a stub for which there are credentials, beside another server that is trusted as well."""
    env = {**trusting(stub, elsewhere), "DOCKER_CONFIG": str(tmp_path)}
    auths = {stub.host: {"auth": BASIC.partition(" ")[2]}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    stub.guard = basic
    return lambda: plugrun("pull", stub.name, env=env)


def basic(seen):
    if seen.headers.get("authorization") == BASIC:
        return None
    return Reply(401, body=b"{}", headers={"WWW-Authenticate": 'Basic realm="tests"'})


def to(server, path):
    return Reply(307, headers={"Location": f"{server.url}{path}"})


def layer_path(stub, parts):
    return stub.blob_path(archives.sha256(parts.packed(parts.layers[0])))


def hold_the_same(elsewhere, stub):
    elsewhere.content |= stub.content


def test_who_is_sent_on_does_not_take_the_secret_along(secretive, stub, elsewhere):
    parts = stub.add(fresh())
    hold_the_same(elsewhere, stub)
    stub.say(layer_path(stub, parts), to(elsewhere, layer_path(stub, parts)))
    secretive().ok()
    assert ("GET", layer_path(stub, parts)) in elsewhere.asked()  # the control: it was sent on
    assert elsewhere.secrets() == []
    assert BASIC in stub.secrets()


@pytest.mark.parametrize("back", ["the registry", "itself"])
def test_nor_when_sent_to_and_fro(secretive, stub, elsewhere, back):
    parts = stub.add(fresh())
    path = layer_path(stub, parts)
    hold_the_same(elsewhere, stub)
    stub.script(path, to(elsewhere, path))
    elsewhere.script(path, to(stub if back == "the registry" else elsewhere, path))
    secretive().ok()
    assert elsewhere.secrets() == []


def test_another_server_that_asks_for_a_secret_gets_none(secretive, stub, elsewhere):
    """CVE-2020-15157: the server that a registry sends us to answers 401 and names itself as the place to log in."""
    parts = stub.add(fresh())
    path = layer_path(stub, parts)
    stub.say(path, to(elsewhere, path))
    elsewhere.guard = bearer(f"{elsewhere.url}/token", service="other")
    assert_failed(secretive(), stub.host)
    assert elsewhere.secrets() == []
    assert ("GET", path) in elsewhere.asked()


def test_a_token_server_gets_the_secret_only_over_tls(secretive, stub, stubs):
    stub.add(fresh())
    plain = stubs(tls=False, name="other.test")
    stub.guard = bearer(f"{plain.url}/token", service="tests")
    assert_failed(secretive(), stub.host, "plain HTTP")
    assert plain.asked() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", METADATA, "2852039166", "0x7f000001", "10.0.0.1"])
def test_a_token_server_has_a_public_name(secretive, stub, host):
    stub.add(fresh())
    stub.guard = bearer(f"https://{host}/token", service="tests")
    assert_failed(secretive(), stub.host, "no public name")


def test_a_token_server_of_another_name_is_the_registrys_choice(secretive, stub, elsewhere):
    """The control of the two above: Docker Hub's is at another host, too."""
    stub.add(fresh())
    tokens = bearer(f"{elsewhere.url}/token", service="tests")
    stub.guard = elsewhere.guard = tokens
    secretive().ok()
    assert elsewhere.secrets() == [BASIC]
    assert BASIC not in stub.secrets()


@pytest.mark.parametrize(
    "location", [f"http://{METADATA}/", f"https://{METADATA}/latest/meta-data/", "http://other.test/"]
)
def test_nobody_is_sent_to_the_metadata_service_or_from_tls_to_none(secretive, stub, location):
    parts = stub.add(fresh())
    stub.say(layer_path(stub, parts), Reply(307, headers={"Location": location}))
    assert_failed(secretive(), "sends us")


def test_credentials_are_for_one_registry_alone(secretive, plugrun, stubs, stub, trusting, tmp_path):
    """The same name at another port is another registry."""
    other = stubs()
    other.add(fresh())
    other.guard = basic
    env = {**trusting(other), "DOCKER_CONFIG": str(tmp_path)}
    assert_failed(plugrun("pull", other.name, env=env), other.host)
    assert other.secrets() == []
    stub.add(fresh())
    secretive().ok()


def test_urls_of_layers_are_not_asked(plugrun, stub, elsewhere, trusting):
    """CVE-2020-15157 and foreign layers: whoever makes an image must not make its users send requests."""
    parts = stub.add(fresh())
    stub.add_manifest(odd.layer_with_urls(parts, f"{elsewhere.url}/urls"))
    plugrun("pull", stub.name, env=trusting(stub, elsewhere)).ok()  # the control: they are no reason to refuse it
    stub.add_manifest(odd.foreign_layer(parts, f"{elsewhere.url}/urls"), tag="foreign")
    foreign = plugrun("pull", stub.name.replace(":v1", ":foreign"), env=trusting(stub, elsewhere))
    assert_failed(foreign, stub.host, "foreign layer")
    assert elsewhere.asked() == []


def test_a_certificate_of_an_unknown_authority(plugrun, stub, trusting, busybox_archive):
    stub.add(fresh())
    plugrun("load", "-i", str(busybox_archive)).ok()
    before = kept(plugrun)
    assert_failed(plugrun("pull", stub.name, env=trusting()), stub.host, "certificate is not trusted")
    assert stub.asked() == []
    assert kept(plugrun) == before
    plugrun("pull", stub.name, env=trusting(stub)).ok()


def test_a_certificate_for_another_name(plugrun, stubs, authority, trusting):
    stub = stubs(certificate=authority.issue("another.test"))
    stub.add(fresh())
    assert_failed(plugrun("pull", stub.name, env=trusting(stub)), stub.host, "certificate is not trusted")
    assert stub.asked() == []


def test_a_certificate_of_yesterday(plugrun, stubs, authority, trusting):
    stub = stubs(certificate=authority.issue("registry.test", days=-1))
    stub.add(fresh())
    assert_failed(plugrun("pull", stub.name, env=trusting(stub)), stub.host, "expired")
    assert stub.asked() == []


def test_no_tls_is_for_this_machine_alone(plugrun, stubs, plain_stub):
    far = stubs(tls=False, name="registry.test")
    far.add(fresh())
    assert_failed(plugrun("pull", far.name), far.host, "speaks plain HTTP")
    assert far.asked() == []
    plain_stub.add(fresh())
    plugrun("pull", plain_stub.name).ok()
