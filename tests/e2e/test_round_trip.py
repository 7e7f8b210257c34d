"""An image on its way from one tool to the others, through registries that want to know who asks."""

from __future__ import annotations

import json

import pytest

from fixtures.registry import PASSWORD, USERNAME
from fixtures.tools import needs_podman, skopeo

pytestmark = pytest.mark.root


@needs_podman
@pytest.mark.parametrize("kind", ["basic_registry", "token_registry"])
@pytest.mark.parametrize("image", ["busybox", "debian"])
def test_skopeo_plugrun_podman(
    kind, image, plugrun, podman, basic_registry, token_registry, busybox_archive, request, tmp_path
):
    shut = {"basic_registry": basic_registry, "token_registry": token_registry}[kind]
    source = busybox_archive if image == "busybox" else f"oci-archive:{request.getfixturevalue('debian_archive')}"
    came, goes = f"trip/{image}:came", f"trip/away/{image}:goes"
    name = shut.push(source, came)
    digest = shut.digest(came)

    plugrun.env.update(shut.env, DOCKER_CONFIG=str(tmp_path / "docker"))
    denied = plugrun("pull", name)
    assert denied.code == 1
    assert f"plugrun login {shut.host}" in denied.stderr
    plugrun("login", "-u", USERNAME, "--password-stdin", shut.host, input=PASSWORD).ok()
    assert f"Digest: {digest}" in plugrun("pull", name).ok().stdout
    assert "PRETTY_NAME" in plugrun("run", "--rm", "--net", "none", name, "cat", "/etc/os-release").ok().stdout
    plugrun("tag", name, shut.name(goes)).ok()
    assert digest in plugrun("push", shut.name(goes)).ok().stdout
    plugrun("logout", shut.host).ok()

    assert shut.digest(goes) == digest
    options = ["--cert-dir", str(shut.cert_dir), "--creds", f"{USERNAME}:{PASSWORD}"]
    podman("pull", "-q", *options, shut.name(goes))
    (found,) = json.loads(podman("image", "inspect", shut.name(goes)))
    assert found["Digest"] == digest
    raw = {
        where: skopeo("inspect", "--raw", *shut.credentials(), f"docker://{shut.name(where)}") for where in (came, goes)
    }
    assert raw[came] == raw[goes]
