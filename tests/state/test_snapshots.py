"""Container snapshots in SQLite."""

from __future__ import annotations

import dataclasses
import sqlite3

import pytest

from plugrun import names
from plugrun.errors import AlreadyExists, InvalidArgument, NotFound
from plugrun.state.containers import ContainerStore
from plugrun.state.database import Database
from plugrun.state.snapshots import Saved, SnapshotStore, passing
from state.test_containers import record

WEB, DB = record(1), record(2)


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "state.db")
    yield database
    database.close()


@pytest.fixture
def containers(database):
    store = ContainerStore(database)
    store.add(WEB)
    store.add(DB)
    return store


@pytest.fixture
def store(database):
    return SnapshotStore(database)


def saved(name, of=WEB, created=1.0):
    return Saved(f"{of.id}.{name}", of.id, name, "overlay", created)


def test_a_snapshot_is_none_before_it_is_made_and_none_when_it_is_to_go(store):
    one = saved("good")
    store.add(one, "web")
    assert (store.of(WEB.id), store.unready()) == ([], [one])
    store.made(one.key)
    assert (store.of(WEB.id), store.unready()) == ([one._replace(ready=True)], [])
    assert store.find(WEB, "good").key == one.key
    store.unmade(one.key)
    assert store.of(WEB.id) == []
    assert [left.key for left in store.unready()] == [one.key]
    store.forget(one.key)
    assert store.keys(WEB.id) == []
    store.forget(one.key)


def test_a_name_is_taken_in_its_container_only_and_until_it_is_to_go(store):
    store.add(saved("good"), "web")
    with pytest.raises(AlreadyExists, match="web has a snapshot 'good' already") as caught:
        store.add(saved("good")._replace(key="another"), "web")
    assert "plugrun snapshot rm web good" in caught.value.hint
    store.add(saved("good", DB), "db")
    store.unmade(saved("good").key)
    store.add(saved("good")._replace(key="another"), "web")


def test_they_come_the_oldest_first_and_each_container_has_its_own(store):
    for one in (saved("late", created=3.0), saved("early", created=2.0), saved("other", DB, created=1.0)):
        store.add(one, "x")
        store.made(one.key)
    assert [one.name for one in store.of(WEB.id)] == ["early", "late"]
    assert [one.name for one in store.all()] == ["other", "early", "late"]


def test_who_asks_for_one_that_is_not_there_hears_of_those_that_are(store):
    with pytest.raises(NotFound, match="has no snapshot 'x'") as caught:
        store.find(WEB, "x")
    assert "it has none" in caught.value.hint
    for name in ("good", "better"):
        store.add(saved(name), "web")
    store.made(saved("good").key)
    with pytest.raises(NotFound) as caught:
        store.find(WEB, "better")
    assert caught.value.hint == "it has: good"


def test_no_user_can_give_the_name_of_a_passing_key():
    with pytest.raises(InvalidArgument, match="cannot be a snapshot name"):
        names.check(passing("key", WEB.id, "overlay").name, "snapshot")


def test_a_switch_is_all_or_nothing(store, containers):
    """A container and its snapshots change their keys together; what they leave is to be removed."""
    one = saved("good")
    store.add(one, "web")
    store.made(one.key)
    new, copy = passing("new", WEB.id, "btrfs"), passing("copy", WEB.id, "btrfs")
    store.add(new, "web")
    store.add(copy, "web")
    own = passing(WEB.snapshot, WEB.id, "overlay")
    moved = dataclasses.replace(WEB, snapshot="new", storage="btrfs")

    with pytest.raises(sqlite3.IntegrityError):  # something is wrong half-way
        store.switch(moved, [(one, copy), (own, new), (own, new)])
    assert containers.get(WEB.id) == WEB
    assert store.find(WEB, "good").key == one.key

    store.switch(moved, [(own, new), (one, copy)])
    assert containers.get(WEB.id) == moved
    now = store.find(WEB, "good")
    assert (now.key, now.storage, now.created) == ("copy", "btrfs", one.created)
    assert {(left.key, left.storage) for left in store.unready()} == {(WEB.id, "overlay"), (one.key, "overlay")}
    assert containers.get(DB.id) == DB


def test_every_key_that_was_given_out_is_known(store, containers, database):
    containers.update(dataclasses.replace(WEB, snapshot="moved"))
    store.add(saved("good"), "web")
    with database.transaction() as connection:
        connection.execute("INSERT INTO volumes VALUES ('data', 'volume-1', 'overlay', 1, '{}')")
    assert store.known() == {"moved", DB.id, saved("good").key, "volume-1"}


def test_looking_for_unready_ones_needs_no_look_at_the_others(store, database):
    plan = database.query("EXPLAIN QUERY PLAN SELECT key FROM snapshots WHERE NOT ready ORDER BY created, name")
    assert "snapshots_unready" in str(plan)
