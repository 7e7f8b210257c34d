"""Image references: the grammar of the distribution project, and Docker's short forms."""

from __future__ import annotations

import pytest

from plugrun.errors import InvalidArgument
from plugrun.images import reference

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("typed", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("quay.io/a/b/c:t", "quay.io/a/b/c:t", "quay.io/a/b/c:t"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest", "[2001:db8::1]:5000/app:latest"),
        ("REGISTRY/app", "REGISTRY/app:latest", "REGISTRY/app:latest"),  # capitals: it can only be a host
        ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest", "a__b/c---d.e_f:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", f"busybox:1@{DIGEST}"),
        ("docker.io/foo.com/bar", "docker.io/foo.com/bar:latest", "docker.io/foo.com/bar:latest"),
        ("x:" + "t" * 128, "docker.io/library/x:" + "t" * 128, "x:" + "t" * 128),
    ],
)
def test_short_forms_and_their_meaning(typed, canonical, familiar):
    found = reference.parse(typed)
    assert found.canonical() == canonical
    assert found.familiar() == familiar
    assert reference.parse(found.canonical()) == found
    assert reference.parse(found.familiar()) == found


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "a repository name is"),
        ("Busybox", "lower case"),
        ("me/App:V1", "lower case"),
        ("busybox:", "the tag ''"),
        ("busybox:-x", "the tag '-x'"),
        ("x:" + "t" * 129, "the tag"),
        ("a//b", "a repository name is"),
        ("/a", "a repository name is"),
        ("a/", "a repository name is"),
        ("a..b", "a repository name is"),
        ("a___b", "a repository name is"),
        ("../../etc", "is no host name"),
        ("a b", "a repository name is"),
        ("a\nb", "a repository name is"),
        ("busybox\n", "a repository name is"),
        ("busybox:1\n", "the tag"),
        ("-rf", "a repository name is"),
        ("bad_host.com/x", "is no host name"),
        ("host:port/x", "is no host name"),
        ("a" * 256, "at most 255"),
        ("ab" * 32, "an image id"),
        ("busybox@sha256:abc", "is not sha256"),
        ("busybox@", "is not sha256"),
        (f"busybox@{DIGEST.upper()}", "is not sha256"),
        (f"busybox@{DIGEST}@{DIGEST}", "is not sha256"),
        (f"busybox@{DIGEST}\n", "is not sha256"),
        ("busybox@sha256:../../../etc/passwd", "is not sha256"),
        ("büro", "a repository name is"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(typed, reason):
    with pytest.raises(InvalidArgument, match=reason) as caught:
        reference.parse(typed)
    assert "\n" not in str(caught.value)


def test_capitals_get_a_suggestion():
    with pytest.raises(InvalidArgument) as caught:
        reference.parse("me/App")
    assert caught.value.hint == "write me/app"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("BusyBox", "write busybox"),
        ("me/App:V1", "write me/app"),
        ("Localhost:5000/Team/App:1", "write Localhost:5000/team/app"),
        ("https://localhost:5000/app", "leave out https://"),
        ("docker://busybox", "leave out docker://"),
    ],
)
def test_what_is_nearly_a_name_comes_with_the_right_one(typed, hint):
    with pytest.raises(InvalidArgument) as caught:
        reference.parse(typed)
    assert caught.value.hint == hint
