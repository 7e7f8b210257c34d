"""What is unpacked is what umoci, the reference for OCI layers, unpacks: every path, and all that is to know of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import trees
from images import archives, nasty
from plugrun.engine import Engine
from plugrun.manager import load
from plugrun.paths import Paths
from plugrun.testing import mounted

pytestmark = [pytest.mark.root, pytest.mark.skipif(not shutil.which("umoci"), reason="umoci is not installed")]

IMAGES = ["busybox", "debian", "nasty"]
DRIVERS = sorted(load().storage)


def tool(*argv):
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{argv}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def layouts(request, tmp_path_factory):
    """Make the OCI layout of an image, whose tag there is its name, once."""
    made = {}

    def layout(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("layouts") / name
            write_layout(request, name, made[name])
        return made[name]

    return layout


def write_layout(request, name, place):
    if name == "nasty":
        archives.write_directory(
            place, archives.Parts(nasty.LAYERS, name, packed=archives.gzipped, layer_type=GZIP).oci()
        )
        return
    archive = request.getfixturevalue(f"{name}_archive")
    kind = {"busybox": "docker-archive", "debian": "oci-archive"}[name]
    tool("skopeo", "--insecure-policy", "copy", "-q", f"{kind}:{archive}", f"oci:{place}:{name}")


GZIP = f"{archives.OCI_LAYER}+gzip"


@pytest.fixture(scope="module")
def reference(layouts, tmp_path_factory):
    """Unpack an image with umoci and survey it, once."""
    surveys = {}

    def survey(name):
        if name not in surveys:
            place = tmp_path_factory.mktemp("umoci") / name
            tool("umoci", "raw", "unpack", "--image", f"{layouts(name)}:{name}", place)
            surveys[name] = trees.survey(place)
            shutil.rmtree(place)
        return surveys[name]

    return survey


@pytest.fixture(params=DRIVERS)
def storage(request, private_root):
    """The name of a storage driver that works here."""
    declared = load().storage[request.param]
    reason = declared.reason(private_root.root / "storage" / request.param)
    if reason:
        pytest.skip(reason)
    return request.param


def by_load(request, plugrun, layout, name):
    plugrun("load", "-i", str(layout)).ok()
    return name


def by_pull(request, plugrun, layout, name):
    registry = request.getfixturevalue("plain_registry")
    return plugrun("pull", registry.push(f"oci:{layout}:{name}", f"trees/{name}:v1")).ok().line and None


WAYS = {"load": by_load}


@pytest.fixture(params=WAYS)
def bring(request, plugrun, layouts):
    """Get an image into the store; return what it is called there."""
    return lambda name: WAYS[request.param](request, plugrun, layouts(name), name)


def survey_of_container(plugrun, storage, image):
    container = plugrun("--storage", storage, "create", image, "none").ok().line
    engine = Engine(Paths(plugrun.roots.root, plugrun.roots.run_root))
    try:
        with mounted(engine.storage(storage, {}).mounts(container)) as root:
            return trees.survey(root), holes(root)
    finally:
        engine.close()


def holes(root):
    return {path.name: path.stat().st_blocks * 512 < path.stat().st_size for path in (root / "sparse").glob("*")}


@pytest.mark.parametrize("image", IMAGES)
def test_the_same_tree_as_umoci(plugrun, storage, bring, reference, image):
    ours, _ = survey_of_container(plugrun, storage, bring(image))
    theirs = reference(image)
    found = trees.differences(ours, theirs)
    assert not found, "\n".join(found)
