"""Volume records: ready or not, in use or not."""

from __future__ import annotations

import pytest

from plugrun.container import ContainerConfig, ContainerRecord, VolumeMount
from plugrun.errors import AlreadyExists, FailedPrecondition, NotFound
from plugrun.state.containers import ContainerStore
from plugrun.state.database import Database
from plugrun.state.volumes import Volume, VolumeStore


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def volumes(database):
    return VolumeStore(database)


def volume(name, **values):
    return Volume(name, f"volume-{name}", "overlay", **values)


def test_a_volume_is_there_once_it_is_made(volumes):
    full = volume("data", options={"size": "1g"}, labels={"k": "v"}, created=7.5, anonymous=True)
    volumes.add(full)
    assert volumes.get("data") is None
    assert volumes.left("data") == full
    assert volumes.all() == []
    volumes.made("data")
    assert volumes.get("data") == volumes.find("data") == full
    assert volumes.left("data") is None
    assert volumes.all() == [full]


def test_a_name_is_taken_by_what_is_half_made_too(volumes):
    volumes.add(volume("data"))
    with pytest.raises(AlreadyExists):
        volumes.add(volume("data")._replace(key="volume-2"))


@pytest.mark.parametrize("name", ["nosuch", "", "\0", "a\nb", "\udcff"])
def test_what_is_not_there(volumes, name):
    with pytest.raises(NotFound):
        volumes.find(name)


def test_a_volume_that_is_to_go_is_none_any_more(volumes):
    volumes.add(volume("data"))
    volumes.made("data")
    volumes.unmade("data")
    assert volumes.get("data") is None
    assert volumes.left("data") == volume("data")
    volumes.forget("data")
    volumes.forget("data")
    assert volumes.left("data") is None


def test_a_volume_in_use_stays(database, volumes):
    for name in ("data", "other"):
        volumes.add(volume(name))
        volumes.made(name)
    containers = ContainerStore(database)
    for number, name in enumerate(["web", "db"]):
        containers.add(container(f"{number}" * 64, name, "data", "data"))
    assert volumes.users() == {"data": {"0" * 64: "web", "1" * 64: "db"}}
    with pytest.raises(FailedPrecondition, match="volume data is in use by db, web") as caught:
        volumes.unmade("data")
    assert caught.value.hint.endswith("plugrun rm db web")
    assert volumes.get("data") is not None
    with pytest.raises(FailedPrecondition, match=r"in use by db$"):
        volumes.unmade("data", but="0" * 64)
    volumes.unmade("other")
    containers.delete("1" * 64)
    volumes.unmade("data", but="0" * 64)


def test_a_container_of_before_there_were_volumes_uses_none(database, volumes):
    containers = ContainerStore(database)
    containers.add(container("0" * 64, "web"))
    with database.transaction() as connection:
        connection.execute("UPDATE containers SET record = json_remove(record, '$.config.volumes', '$.config.images')")
    assert volumes.users() == {}
    assert containers.find("web").config.volumes == ()


def container(container_id, name, *mounts):
    config = ContainerConfig(
        image="busybox", image_id="sha256:0", args=("true",), volumes=tuple(VolumeMount(one, "/x") for one in mounts)
    )
    return ContainerRecord(
        id=container_id, name=name, config=config, storage="overlay", storage_api="1.0", runtime="/usr/bin/crun",
    )  # fmt: skip
