"""The scripted registry: it is a good one until told otherwise, and each of its faults is really there."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading

import pytest

from fixtures.answers import flipped, lengthened, shortened
from fixtures.stub import Reply, bearer
from fixtures.tools import skopeo
from images import archives

DATA = bytes(range(256)) * 1024


@pytest.fixture
def ask(plain_stub):
    connection = http.client.HTTPConnection(plain_stub.host, timeout=20)

    def request(path, method="GET", **headers):
        connection.request(method, path, headers=headers)
        return connection.getresponse()

    yield request
    connection.close()


@pytest.fixture
def path(plain_stub):
    return plain_stub.blob_path(plain_stub.add_blob(DATA))


@pytest.mark.root
def test_a_stranger_can_pull_from_it(stub, authority, tmp_path):
    parts = stub.add(archives.Parts(packed=archives.gzipped, layer_type=archives.OCI_LAYER + "+gzip"))
    trust = authority.trust(tmp_path / "certs.d", stub.host)
    skopeo("copy", "-q", "--src-cert-dir", str(trust), f"docker://{stub.name}", f"dir:{tmp_path / 'pulled'}")
    assert (tmp_path / "pulled" / parts.id.partition(":")[2]).read_bytes() == parts.config_bytes
    assert ("GET", stub.manifest_path()) in stub.asked()


@pytest.mark.root
def test_a_stranger_gets_a_token_and_is_let_in(stub, authority, tmp_path):
    stub.add()
    stub.guard = bearer(f"{stub.url}/token", uses=1, service="tests")
    trust = authority.trust(tmp_path / "certs.d", stub.host)
    inspect = ["skopeo", "inspect", "--raw", "--cert-dir", str(trust), f"docker://{stub.name}"]
    assert subprocess.run(inspect, capture_output=True, check=False).returncode == 0
    assert stub.secrets() == ["Bearer token-0"]


def test_a_token_is_good_for_so_many_requests(plain_stub, ask, path):
    plain_stub.guard = bearer(f"{plain_stub.url}/token", uses=2, service="tests")
    refused = ask(path)
    assert (refused.status, refused.read()) == (401, b"{}")
    assert refused.headers["WWW-Authenticate"] == f'Bearer realm="{plain_stub.url}/token",service="tests"'
    token = json.loads(ask("/token?scope=x").read())["token"]
    assert [ask(path, Authorization=f"Bearer {token}").read() for _ in range(2)] == [DATA, DATA]
    over = ask(path, Authorization=f"Bearer {token}")
    assert (over.status, over.headers["WWW-Authenticate"].endswith(',error="invalid_token"')) == (401, True)
    assert plain_stub.secrets() == [f"Bearer {token}"] * 3


def test_it_is_a_good_registry_at_first(plain_stub, ask):
    parts = plain_stub.add()
    answer = ask(plain_stub.manifest_path())
    assert answer.headers["Content-Type"] == archives.OCI_MANIFEST
    data = answer.read()
    assert answer.headers["Docker-Content-Digest"] == archives.sha256(data)
    assert ask(plain_stub.manifest_path(archives.sha256(data))).read() == data
    assert ask(plain_stub.blob_path(parts.id)).read() == parts.config_bytes
    assert ask("/v2/").read() == b"{}"
    absent = ask("/v2/none/manifests/v1")
    assert (absent.status, json.loads(absent.read())["errors"][0]["code"]) == (404, "NOT_FOUND")
    head = ask(plain_stub.manifest_path(), "HEAD")
    assert (head.read(), head.headers["Content-Length"]) == (b"", str(len(data)))


def test_replies_are_used_up_then_it_is_good_again(plain_stub, ask, path):
    plain_stub.script(path, Reply(429, headers={"Retry-After": "7"}), Reply(503))
    first = ask(path)
    assert (first.status, first.headers["Retry-After"], first.read()) == (429, "7", b"")
    second = ask(path)
    assert (second.status, second.read()) == (503, b"")
    assert ask(path).read() == DATA
    plain_stub.say(path, Reply(500))
    assert [ask(path).read() for _ in range(3)] == [b"", b"", b""]


@pytest.mark.parametrize("change", [flipped, shortened, lengthened])
def test_bytes_are_wrong(plain_stub, ask, path, change):
    plain_stub.say(path, Reply(change=change))
    answer = ask(path)
    found = answer.read()
    assert found == change(DATA) != DATA
    assert answer.headers["Content-Length"] == str(len(found))


def test_a_range_is_honoured_ignored_or_broken_off(plain_stub, ask, path):
    part = ask(path, Range="bytes=1000-")
    assert (part.status, part.headers["Content-Range"]) == (206, f"bytes 1000-{len(DATA) - 1}/{len(DATA)}")
    assert part.read() == DATA[1000:]
    plain_stub.script(path, Reply(ranges=False), Reply(cut=5))
    whole = ask(path, Range="bytes=1000-")
    assert (whole.status, whole.read()) == (200, DATA)
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(path, Range="bytes=1000-").read()
    assert broken.value.partial == DATA[1000:1005]


def test_a_body_without_end(plain_stub, ask, path):
    plain_stub.say(path, Reply(endless=True))
    answer = ask(path)
    assert answer.headers["Content-Length"] is None
    assert answer.read(3 * len(DATA)) == DATA * 3
    answer.close()


def test_a_body_that_drips(plain_stub, ask, path):
    plain_stub.say(path, Reply(pause=30))
    answer = ask(path)
    assert answer.read(1) == DATA[:1]  # and at its end the stub does not wait for the rest
    answer.close()


def test_a_body_that_waits_in_its_middle(plain_stub, ask, path):
    go = threading.Event()
    plain_stub.say(path, Reply(hold=(1000, go)))
    answer = ask(path)
    assert answer.read(1000) == DATA[:1000]
    go.set()
    assert answer.read() == DATA[1000:]


def test_headers_are_wrong(plain_stub, ask, path):
    plain_stub.say(path, Reply(headers={"Content-Type": "text/html", "Docker-Content-Digest": None}))
    answer = ask(path)
    assert answer.read() == DATA
    assert (answer.headers["Content-Type"], answer.headers["Docker-Content-Digest"]) == ("text/html", None)


def test_one_sends_to_another(plain_stub, stubs, ask, path):
    other = stubs(tls=False)
    plain_stub.say(path, Reply(307, headers={"Location": other.url + path}))
    answer = ask(path, Authorization="secret")
    assert (answer.status, answer.read(), answer.headers["Location"]) == (307, b"", other.url + path)
    assert plain_stub.secrets() == ["secret"]
    assert other.asked() == []


def test_requests_are_waited_for(plain_stub, ask):
    thread = threading.Thread(target=ask, args=["/late"])
    thread.start()
    assert plain_stub.wait_for(lambda seen: seen.path == "/late").method == "GET"
    thread.join()
    with pytest.raises(AssertionError, match="no such request"):
        plain_stub.wait_for(lambda seen: seen.path == "/never", timeout=0)
