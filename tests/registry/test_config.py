"""registries.conf: which registry is asked where. Expectations are those of containers-registries.conf(5)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plugrun.errors import FailedPrecondition, InvalidArgument, NotFound
from plugrun.images import reference
from plugrun.registry import config

pytestmark = pytest.mark.usefixtures("no_registries_conf")

DIGEST = "sha256:" + "0a" * 32
PAGE = Path(__file__).parents[2] / "docs/registries.md"


def test_the_example_in_the_documentation_means_what_it_says(tmp_path):
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "registries.conf").write_text(example)
    loaded = config.load(tmp_path)
    assert places(loaded, "busybox") == [
        "mirror.example.com/hub/library/busybox",
        "registry-1.docker.io/library/busybox",
    ]
    assert insecure(loaded, "old.example.com:5000/a") == [True]
    with pytest.raises(FailedPrecondition, match="blocked"):
        loaded.endpoints(reference.parse("sub.example.org/a"))


def places(loaded, name):
    return [f"{one.host}/{one.repository}" for one in loaded.endpoints(reference.parse(name))]


def insecure(loaded, name):
    return [one.insecure for one in loaded.endpoints(reference.parse(name))]


def test_without_files_a_registry_is_reached_by_its_name(tmp_path):
    loaded = config.load(tmp_path / "absent")
    (hub,) = loaded.endpoints(reference.parse("busybox"))
    assert (hub.host, hub.repository, hub.registry) == ("registry-1.docker.io", "library/busybox", "docker.io")
    assert not hub.insecure
    assert places(loaded, "quay.io/a/b:1") == ["quay.io/a/b"]


@pytest.mark.parametrize(
    ("registry", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("LOCALHOST:5000", True),
        ("127.0.0.1:5000", True),
        ("127.255.1.2", True),
        ("[::1]:5000", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("127.example.com", False),
        ("10.0.0.1:5000", False),
        ("192.168.1.1", False),
        ("0.0.0.0:5000", False),
        ("[::2]:5000", False),
        ("[fe80::1]", False),
        ("docker.io", False),
    ],
)
def test_only_this_machine_is_insecure_unasked(load, registry, loopback):
    loaded = load()
    assert insecure(loaded, f"{registry}/a/b") == [loopback]
    assert loaded.push_endpoint(reference.parse(f"{registry}/a/b")).insecure is loopback
    assert loaded.login_endpoint(registry).insecure is loopback


def test_insecure_is_what_the_file_says(load):
    loaded = load(
        '[[registry]]\nlocation = "a.com"\ninsecure = true\n[[registry]]\nprefix = "localhost"\ninsecure = false'
    )
    assert insecure(loaded, "a.com/x") == [True]
    assert insecure(loaded, "a.com:443/x") == [False]
    assert insecure(loaded, "localhost/x") == [False]
    assert loaded.push_endpoint(reference.parse("a.com/x")).insecure
    assert loaded.login_endpoint("a.com").insecure
    assert not loaded.login_endpoint("b.a.com").insecure


MIRRORED = """
[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "mirror.example.com/hub"
[[registry.mirror]]
location = "localhost:5000"
insecure = false
"""


def test_mirrors_come_first_and_are_insecure_on_their_own_account(load):
    loaded = load(MIRRORED)
    first, second, last = loaded.endpoints(reference.parse("busybox"))
    assert (first.host, first.repository) == ("mirror.example.com", "hub/library/busybox")
    assert (first.registry, first.insecure) == ("mirror.example.com", False)
    assert (second.host, second.repository, second.insecure) == ("localhost:5000", "library/busybox", False)
    assert (last.host, last.repository) == ("registry-1.docker.io", "library/busybox")
    assert places(loaded, "quay.io/x") == ["quay.io/x"]


def test_a_push_goes_to_the_registry_itself(load):
    loaded = load(MIRRORED + '[[registry]]\nprefix = "a.com"\nlocation = "b.com/c"\ninsecure = true')
    assert loaded.push_endpoint(reference.parse("busybox"))[:2] == ("registry-1.docker.io", "library/busybox")
    elsewhere = loaded.push_endpoint(reference.parse("a.com/x"))
    assert elsewhere[:2] == ("a.com", "x")
    assert not elsewhere.insecure  # b.com is
    assert not loaded.login_endpoint("a.com").insecure
    assert insecure(loaded, "a.com/x") == [True]


def test_a_repository_is_rewritten_by_location(load):
    loaded = load(
        '[[registry]]\nprefix = "example.com/foo"\nlocation = "internal.net/bar"\n'
        '[[registry]]\nprefix = "quay.io"\nlocation = "docker.io"'
    )
    assert places(loaded, "example.com/foo/myimage:latest") == ["internal.net/bar/myimage"]
    assert places(loaded, "example.com/foo") == ["internal.net/bar"]
    assert places(loaded, "EXAMPLE.com/foo/x") == ["internal.net/bar/x"]
    assert places(loaded, "example.com/foobar") == ["example.com/foobar"]
    assert places(loaded, "example.com:443/foo/x") == ["example.com:443/foo/x"]
    (hub,) = loaded.endpoints(reference.parse("quay.io/a/b"))
    assert (hub.host, hub.registry) == ("registry-1.docker.io", "docker.io")


def test_a_location_must_leave_a_repository(load):
    loaded = load('[[registry]]\nprefix = "example.com/foo"\nlocation = "internal.net"')
    assert places(loaded, "example.com/foo/x") == ["internal.net/x"]
    with pytest.raises(FailedPrecondition, match=r"internal\.net in place of example\.com/foo, which is no repository"):
        loaded.endpoints(reference.parse("example.com/foo"))


def test_the_longest_prefix_counts(load):
    loaded = load(
        '[[registry]]\nprefix = "*.com"\nlocation = "1.net"\n'
        '[[registry]]\nprefix = "*.b.com"\nlocation = "2.net"\n'
        '[[registry]]\nprefix = "a.b.com"\nlocation = "3.net"\n'
        '[[registry]]\nprefix = "a.b.com/x/y"\nlocation = "4.net"\n'
        '[[registry]]\nprefix = "a.b.com/x"\nlocation = "5.net"\n'
    )
    assert places(loaded, "a.com/i") == ["1.net/i"]
    assert places(loaded, "c.b.com/i") == ["2.net/i"]
    assert places(loaded, "a.b.com/i") == ["3.net/i"]
    assert places(loaded, "a.b.com/x/i") == ["5.net/i"]
    assert places(loaded, "a.b.com/x/y/i") == ["4.net/i"]


def test_a_wildcard_is_any_number_of_subdomains_and_not_the_domain(load):
    loaded = load('[[registry]]\nprefix = "*.Example.com"\ninsecure = true\n[[registry.mirror]]\nlocation = "m.net/x"')
    assert places(loaded, "a.example.com/i") == ["m.net/x/i", "a.example.com/i"]
    assert places(loaded, "a.b.example.com:5000/i") == ["m.net/x/i", "a.b.example.com:5000/i"]
    assert insecure(loaded, "a.EXAMPLE.com/i") == [False, True]
    assert places(loaded, "example.com/i") == ["example.com/i"]
    assert places(loaded, "notexample.com/i") == ["notexample.com/i"]
    assert places(loaded, "a.example.com.evil.net/i") == ["a.example.com.evil.net/i"]
    assert places(loaded, "evil.net/a.example.com/i") == ["evil.net/a.example.com/i"]


@pytest.mark.parametrize(
    ("use", "of_tag", "of_digest"), [("all", 2, 2), ("digest-only", 1, 2), ("tag-only", 2, 1), ("", 2, 2)]
)
def test_a_mirror_may_be_for_tags_or_for_digests_only(load, use, of_tag, of_digest):
    mirror = f'[[registry.mirror]]\nlocation = "m.net"\npull-from-mirror = "{use}"'
    loaded = load(f'[[registry]]\nlocation = "a.com"\n{mirror}')
    assert len(places(loaded, "a.com/x:1")) == of_tag
    assert len(places(loaded, f"a.com/x@{DIGEST}")) == of_digest
    assert len(places(loaded, f"a.com/x:1@{DIGEST}")) == of_digest


def test_all_mirrors_may_be_for_digests_only(load):
    loaded = load(
        '[[registry]]\nlocation = "a.com"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.net"'
    )
    assert len(places(loaded, "a.com/x:1")) == 1
    assert len(places(loaded, f"a.com/x@{DIGEST}")) == 2


@pytest.mark.parametrize("name", ["bad.com/x", "BAD.com/x", "bad.com/x/y:1", "a.worse.com/x", "fine.com/bad/x"])
def test_a_blocked_registry_is_asked_nothing(load, name):
    blocked = ["bad.com", "*.worse.com", "fine.com/bad"]
    loaded = load("".join(f'[[registry]]\nprefix = "{prefix}"\nblocked = true\n' for prefix in blocked))
    ref = reference.parse(name)
    for ask in (loaded.endpoints, loaded.push_endpoint):
        with pytest.raises(FailedPrecondition, match=r"is blocked by /.*registries\.conf"):
            ask(ref)
    assert places(loaded, "fine.com/badly/x") == ["fine.com/badly/x"]


def test_nobody_logs_in_to_a_blocked_registry(load):
    loaded = load('[[registry]]\nprefix = "bad.com"\nblocked = true')
    with pytest.raises(FailedPrecondition, match="is blocked"):
        loaded.login_endpoint("bad.com")
    assert loaded.login_endpoint("docker.io")[:3] == ("registry-1.docker.io", "", "docker.io")


def test_drop_ins_replace_rules_of_the_same_prefix_in_order(load, monkeypatch):
    listed = Path.glob
    monkeypatch.setattr(Path, "glob", lambda *arguments: sorted(listed(*arguments), reverse=True))
    loaded = load(
        '[[registry]]\nprefix = "a.com"\nlocation = "0.net"\n[[registry]]\nprefix = "b.com"\nlocation = "0.net"',
        **{
            "10": '[[registry]]\nprefix = "a.com"\nlocation = "1.net"',
            "20": '[[registry]]\nprefix = "A.com"\nlocation = "2.net"',
        },
    )
    assert places(loaded, "a.com/x") == ["2.net/x"]
    assert places(loaded, "b.com/x") == ["0.net/x"]


def test_the_environment_names_the_only_file(load, tmp_path, monkeypatch):
    load('[[registry]]\nprefix = "a.com"\nlocation = "0.net"')
    only = tmp_path / "only"
    only.write_text('[[registry]]\nprefix = "b.com"\nlocation = "1.net"')
    monkeypatch.setenv(config.FILE_VARIABLE, str(only))
    loaded = config.load(tmp_path)
    assert (places(loaded, "a.com/x"), places(loaded, "b.com/x")) == (["a.com/x"], ["1.net/x"])
    monkeypatch.setenv(config.FILE_VARIABLE, "only")
    with pytest.raises(InvalidArgument, match="no absolute path"):
        config.load(tmp_path)
    monkeypatch.setenv(config.FILE_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(NotFound, match="absent"):
        config.load(tmp_path)


def test_certificates_are_where_docker_and_podman_have_them(load, monkeypatch):
    loaded = load(MIRRORED)
    mirror, _, hub = loaded.endpoints(reference.parse("busybox"))
    places = ("/etc/plugrun/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
    assert mirror.certificates == tuple(Path(place, "mirror.example.com") for place in places)
    assert hub.certificates == tuple(Path(place, "docker.io") for place in places)
    monkeypatch.setenv(config.CERTIFICATES_VARIABLE, "/mine")
    assert loaded.login_endpoint("a.com:5000").certificates[:2] == (
        Path("/mine/a.com:5000"),
        Path("/etc/plugrun/certs.d/a.com:5000"),
    )
