"""Container records in SQLite."""

from __future__ import annotations

import json
import multiprocessing
import sqlite3

import pytest

from plugrun.container import BindMount, ContainerConfig, ContainerRecord, ImageMount, Resources, Security, Status
from plugrun.endpoint import Endpoint
from plugrun.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from plugrun.ports import PortMapping
from plugrun.state.codec import decode, encode
from plugrun.state.containers import ContainerStore
from plugrun.state.database import Database

ENDPOINTS = (
    Endpoint("bridge", "1.0", "f" * 64, "front", aliases=("db",), result={"addresses": ["10.0.0.2/24"], "data": {}}),
    Endpoint("bridge", "1.0", "e" * 64, "back", number=1, ip="10.1.0.2", options={"mtu": "1400"}),
)
PORTS = (PortMapping(80, 8080, "tcp", "127.0.0.1"), PortMapping(7000, 7000, "udp", size=10))


def record(number=1, **changes):
    values = {
        "id": f"{number:064x}",
        "name": f"web{number}",
        "config": ContainerConfig(image="busybox", image_id="sha256:" + "a" * 64, args=("sh",)),
        "storage": "overlay",
        "storage_api": "1.0",
        "runtime": "/usr/bin/crun",
        "created": float(number),
    }
    return ContainerRecord(**{**values, **changes})


@pytest.fixture
def store(tmp_path):
    database = Database(tmp_path / "state.db")
    yield ContainerStore(database)
    database.close()


def test_a_record_survives_the_database_whole(store):
    config = ContainerConfig(
        image="busybox",
        image_id="sha256:" + "b" * 64,
        args=("sh", "-c", "true"),
        entrypoint=("sh",),
        env=("A=1", "B=ü"),
        binds=(BindMount(source="/a", destination="/b", read_only=True),),
        tmpfs={"/tmp": "size=1m"},
        security=Security(cap_add=("NET_ADMIN",), seccomp="unconfined"),
        resources=Resources(memory=1, cpus=1.5),
        ulimits={"nofile": (1, 2)},
        labels={"k": "v"},
        exposed=("80/tcp",),
        dns=("10.0.0.1",),
        extra_hosts=(("db", "10.0.0.9"),),
    )
    kept = record(config=config, status=Status.RUNNING, exit_code=None, endpoints=ENDPOINTS, ports=PORTS)
    store.add(kept)
    assert store.get(kept.id) == kept


def test_a_record_of_one_network_becomes_one_of_an_endpoint():
    old = json.loads(encode(record()))
    del old["endpoints"], old["ports"]
    old |= {"network": "container", "network_api": "1.0", "network_target": "web", "net_result": {"addresses": ["a"]}}
    (endpoint,) = decode(json.dumps(old)).endpoints
    assert (endpoint.driver, endpoint.api, endpoint.target, endpoint.name) == (
        "container",
        "1.0",
        "web",
        "container:web",
    )
    assert endpoint.addresses == ("a",)


def test_keys_of_a_newer_plugrun_are_ignored():
    text = encode(record()).replace('"storage":', '"invented":1,"storage":', 1)
    assert decode(text) == record()


def test_find_by_name_id_and_unique_beginning(store):
    store.add(record(0x1234, name="web"))
    for key in ("web", f"{0x1234:064x}", f"{0x1234:064x}"[:62]):
        assert store.find(key).name == "web"


def test_a_name_that_looks_like_the_beginning_of_an_id_is_the_name(store):
    store.add(record(1, id="abc" + "0" * 61, name="web"))
    store.add(record(2, name="abc"))
    assert store.find("abc").id == record(2).id


def test_an_ambiguous_beginning_is_refused_and_a_missing_one_not_found(store):
    store.add(record(1))
    store.add(record(2))
    with pytest.raises(InvalidArgument, match="2 container ids"):
        store.find("0000")
    with pytest.raises(NotFound, match="no such container: nosuch"):
        store.find("nosuch")
    with pytest.raises(NotFound):
        store.find("")


def test_a_taken_name_is_refused_and_says_by_whom(store):
    store.add(record(1, name="web"))
    with pytest.raises(AlreadyExists, match="'web' is taken by container 000000000000") as caught:
        store.add(record(2, name="web"))
    assert "plugrun rm web" in caught.value.hint
    assert store.get(record(2).id) is None


def test_the_exit_code_outlives_the_container(store):
    ended = record(status=Status.EXITED, exit_code=7)
    store.add(ended)
    store.ended(ended)
    store.delete(ended.id)
    assert store.last_exit(ended.id) == 7


def test_old_exit_codes_are_forgotten(store):
    for number in range(1100):
        store.ended(record(number, exit_code=1))
    rows = store._database.connection.execute("SELECT count(*) FROM exits").fetchone()[0]
    assert rows == 1000
    assert store.last_exit(record(0).id) is None


def test_by_status_newest_first(store):
    for number, status in enumerate((Status.RUNNING, Status.EXITED, Status.RUNNING), start=1):
        store.add(record(number, status=status))
    assert [found.name for found in store.all(Status.RUNNING)] == ["web3", "web1"]
    assert [found.name for found in store.all()] == ["web3", "web2", "web1"]


def test_an_update_of_a_removed_container_does_not_bring_it_back(store):
    store.update(record())
    assert store.all() == []


def test_images_in_use(store):
    store.add(record(1))
    assert store.using_image(record().config.image_id) == ["web1"]
    assert store.using_image("sha256:" + "0" * 64) == []
    assert store.images_in_use() == {record().config.image_id: 1}


def test_an_image_that_is_mounted_is_in_use(store):
    other, own = "sha256:" + "b" * 64, record().config.image_id
    mounted = (ImageMount("tool", other, "/x"), ImageMount("tool", other, "/y"), ImageMount("busybox", own, "/z"))
    store.add(record(2, config=record().config._replace(images=mounted)))
    store.add(record(1, config=record().config._replace(images=mounted[:1])))
    assert store.using_image(other) == store.using_image(own) == ["web1", "web2"]
    assert store.images_in_use() == {own: 2, other: 2}


def test_a_failed_transaction_leaves_nothing(store):
    def fail():
        with store._database.transaction() as connection:
            connection.execute("INSERT INTO exits (id, code) VALUES ('x', 1)")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert store.last_exit("x") is None


def test_the_file_is_private(tmp_path, store):
    store.all()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match=r"state.db cannot be used"):
        ContainerStore(Database(tmp_path / "state.db")).all()


@pytest.mark.parametrize("ask", ["all", "get", "find", "last_exit", "using_image"])
def test_damaged_pages_are_named_whatever_is_asked(tmp_path, ask):
    path = tmp_path / "state.db"
    database = Database(path)
    ContainerStore(database).all()
    database.close()
    with open(path, "r+b") as stream:  # behind the first page, which opening reads
        stream.seek(4096)
        stream.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(Unavailable, match=r"state.db cannot be used: "):
        getattr(ContainerStore(Database(path)), ask)(*([] if ask == "all" else ["a" * 64]))


def test_a_newer_schema_is_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unavailable, match="schema 99"):
        ContainerStore(Database(tmp_path / "state.db")).all()


def _add(path, number):
    database = Database(path)
    store = ContainerStore(database)
    outcome = []
    for step in range(10):
        try:
            store.add(record(number * 100 + step, name=f"name{step}"))
            outcome.append(step)
        except AlreadyExists:
            pass
    database.close()
    return outcome


def test_of_many_processes_one_wins_each_name(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(_add, [(tmp_path / "state.db", number) for number in range(1, 9)])
    assert sorted(step for steps in won for step in steps) == list(range(10))


def _first_use(path):
    database = Database(path)
    with database.transaction() as connection:
        connection.execute("INSERT OR REPLACE INTO exits (id, code) VALUES ('a', 1)")
    database.close()


def test_of_many_processes_that_make_the_database_none_fails(tmp_path):
    with multiprocessing.get_context("spawn").Pool(6) as pool:
        for number in range(60):
            pool.map(_first_use, [tmp_path / f"{number}.db"] * 6, chunksize=1)
    left = {path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert left == {f"{number}.db" for number in range(60)}  # two that close at once may both leave the log


def test_a_file_that_is_no_database_of_ours_is_left_alone(tmp_path):
    (tmp_path / "state.db").touch()
    with pytest.raises(Unavailable, match=r"is no database of plugrun"):
        ContainerStore(Database(tmp_path / "state.db")).all()
    assert (tmp_path / "state.db").stat().st_size == 0
