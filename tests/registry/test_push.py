"""How a push goes about it: at once, in order, and stopped as one."""

from __future__ import annotations

import signal
import threading
from collections import Counter

import pytest

from images import archives
from images.archives import Parts
from plugrun.errors import Denied, FailedPrecondition, Unavailable
from plugrun.images import layout, reference
from plugrun.images.store import ImageStore
from plugrun.registry import push
from plugrun.registry.endpoint import Endpoint
from plugrun.registry.push import Pusher, State

NAME = "a.com/app"
REF = reference.parse(NAME)
PATIENCE = 20.0


class Remote:
    """A repository that has and takes what a test says, and keeps what it was asked."""

    def __init__(self):
        self.has = set()
        self.mounts = {}  # digest: the repository it can be mounted from
        self.asked = []
        self.lock = threading.Lock()
        self.before = lambda verb, digest: None

    def ask(self, verb, *what):
        with self.lock:
            self.asked.append((verb, *what))
        self.before(verb, what[0])

    def has_blob(self, digest):
        self.ask("has", digest)
        return digest in self.has

    def mount_blob(self, digest, source):
        self.ask("mount", digest, source)
        return self.mounts.get(digest) == source

    def upload_blob(self, digest, size, open_blob, sent):
        self.ask("upload", digest)
        with open_blob() as stream:
            data = stream.read()
        assert (archives.sha256(data), len(data)) == (digest, size)
        sent(size - 1)
        sent(1 - size)
        sent(size)

    def put_manifest(self, tag, data, media_type):
        self.ask("put", tag, archives.sha256(data), media_type)


class Connections:
    """Stands for the transport."""

    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


@pytest.fixture
def remote(monkeypatch):
    remote = Remote()
    monkeypatch.setattr(push, "Repository", lambda transport, endpoint: remote)
    return remote


@pytest.fixture
def store(tmp_path):
    return ImageStore(tmp_path / "images")


@pytest.fixture
def image(store, tmp_path):
    """An image of six layers, named ``a.com/app:latest``."""
    parts = Parts([archives.layer({f"{number}": b"x" * 100}) for number in range(6)], name=None)
    store.load(archives.write_tar(tmp_path / "image.tar", parts.oci()))
    store.tag(store.resolve(parts.id), NAME)
    return parts


def digests(parts):
    return [archives.sha256(data) for data in (parts.config_bytes, *parts.layers)]


def pusher(store, connections=None):
    return Pusher(store.root, connections or Connections(), Endpoint("a.com", "app", "a.com"))


def test_the_manifest_comes_last_and_is_as_stored(store, image, remote):
    steps = []
    pushed = pusher(store).push(REF, steps.append)
    (entry,) = layout.read_index(store.root)
    assert pushed == (REF, entry.digest, entry.size)
    assert remote.asked[-1] == ("put", "latest", entry.digest, archives.OCI_MANIFEST)
    assert sorted(digest for verb, digest in remote.asked[:-1] if verb == "upload") == sorted(digests(image))
    assert Counter(step.blob.digest for step in steps if step.state is State.PUSHED) == Counter(digests(image))


def test_what_was_sent_is_told_and_taken_back(store, image, remote):
    steps = []
    pusher(store).push(REF, steps.append)
    layer = archives.sha256(image.layers[0])
    size = len(image.layers[0])
    mine = [(step.state, step.sent) for step in steps if step.blob.digest == layer]
    sending = [(State.SENDING, sent) for sent in (0, size - 1, 0, size)]
    assert mine == [*sending, (State.PUSHED, size)]


def test_what_the_registry_has_is_not_sent(store, image, remote):
    remote.has = set(digests(image))
    steps = []
    pusher(store).push(REF, steps.append)
    assert Counter(asked[0] for asked in remote.asked) == {"has": 7, "put": 1}
    assert {step.state for step in steps} == {State.EXISTS}


def test_what_another_repository_has_is_mounted(store, image, remote):
    for name in ("a.com/other", "a.com/more", "b.com/foreign"):
        store.tag(store.resolve(NAME), name)
    shared = archives.sha256(image.layers[0])
    remote.mounts = {shared: "more"}
    remote.has = set(digests(image)) - {shared}
    steps = []
    pusher(store).push(REF, steps.append)
    assert [asked[1:] for asked in remote.asked if asked[0] == "mount"] == [(shared, "other"), (shared, "more")]
    assert [asked for asked in remote.asked if asked[0] == "upload"] == []
    assert [(step.state, step.source) for step in steps if step.blob.digest == shared] == [(State.MOUNTED, "more")]


def test_only_so_many_mounts_are_tried_before_a_blob_is_sent(store, image, remote):
    for number in range(9):
        store.tag(store.resolve(NAME), f"a.com/other{number}")
    pusher(store).push(REF, lambda step: None)
    counted = Counter(asked[0] for asked in remote.asked)
    assert counted == {"has": 7, "mount": 7 * 3, "upload": 7, "put": 1}


def test_four_blobs_go_at_once(store, image, remote):
    together = threading.Barrier(4)
    left = iter(range(4))

    def before(verb, digest):
        with remote.lock:
            waits = verb == "upload" and next(left, None) is not None
        if waits:
            together.wait(PATIENCE)

    remote.before = before
    pusher(store).push(REF, lambda step: None)


def test_reports_never_come_two_at_once(store, image, remote):
    inside, overlaps = threading.Lock(), []

    def report(step):
        if not inside.acquire(blocking=False):
            overlaps.append(step)
            return
        threading.Event().wait(0.002)
        inside.release()

    pusher(store).push(REF, report)
    assert overlaps == []


def test_the_first_failure_is_the_one_told_and_ends_the_others(store, image, remote):
    steps, told, closer = [], [], []
    begun, gone = threading.Semaphore(0), threading.Semaphore(0)

    class Slow(Connections):
        def close(self):
            if not self.closed.is_set():
                told.append(len(steps))
                closer.append(threading.current_thread())
                super().close()
                for _ in range(3):  # so that the others have failed before the first failure is known to all
                    assert gone.acquire(timeout=PATIENCE)

    connections = Slow()

    def upload(digest, size, open_blob, sent):
        remote.ask("upload", digest)
        if digest == digests(image)[0]:
            for _ in range(3):
                assert begun.acquire(timeout=PATIENCE)
            raise Denied("no", hint="log in")
        begun.release()
        assert connections.closed.wait(PATIENCE)
        sent(size)
        gone.release()
        raise Unavailable("the connections are closed")

    remote.upload_blob = upload
    with pytest.raises(Denied) as caught:
        pusher(store, connections).push(REF, steps.append)
    assert (str(caught.value), caught.value.hint) == (f"cannot push {NAME}:latest: no", "log in")
    join()
    assert told == [len(steps)]
    assert closer[0].name.startswith("push")  # not one that would first have to hear of it
    assert Counter(asked[0] for asked in remote.asked) == {"has": 4, "upload": 4}


def test_an_interrupt_waits_for_nobody(store, image, remote):
    begun, over = threading.Semaphore(0), threading.Event()
    connections = Connections()

    def upload(digest, size, open_blob, sent):
        begun.release()
        if digest == digests(image)[0]:
            for _ in range(4):
                assert begun.acquire(timeout=PATIENCE)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        over.wait(PATIENCE)

    remote.upload_blob = upload
    with pytest.raises(KeyboardInterrupt):
        pusher(store, connections).push(REF, lambda step: None)
    assert len(workers()) == 4
    assert connections.closed.is_set()
    over.set()
    join()
    assert Counter(asked[0] for asked in remote.asked) == {"has": 4}


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("push")]


def join():
    for thread in workers():
        thread.join(PATIENCE)


def test_nothing_is_asked_when_a_layer_is_missing(store, image, remote):
    layout.blob_path(store.root, digests(image)[3]).unlink()
    with pytest.raises(FailedPrecondition, match=r"cannot push a\.com/app:latest: blob .* is missing"):
        pusher(store).push(REF, lambda step: None)
    assert remote.asked == []
