"""Our named tuples behave as typing's do."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from plugrun.tuples import NamedTuple


class Ours(NamedTuple):
    """A place."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self):
        return 2 * self.size

    def __str__(self):
        return f"<{self.name}>"


class Theirs(typing.NamedTuple):
    """A place."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self):
        return 2 * self.size

    def __str__(self):
        return f"<{self.name}>"


CALLS = [
    (("a",), {}),
    (("a", 4), {}),
    (("a", 4, ("x",)), {}),
    ((), {"name": "a"}),
    (("a",), {"tags": ("x",)}),
    ((), {"tags": (), "size": 1, "name": "b"}),
]
WRONG = [
    ((), {}),
    ((), {"size": 1}),
    (("a", 1, (), 2), {}),
    (("a",), {"name": "b"}),
    (("a",), {"nosuch": 1}),
    (("a", 1, ()), {"size": 1}),
]


@pytest.mark.parametrize(("args", "named"), CALLS)
def test_made_alike(args, named):
    ours, theirs = Ours(*args, **named), Theirs(*args, **named)
    assert ours == theirs == tuple(ours)
    assert hash(ours) == hash(theirs)
    assert (ours.name, ours.size, ours.tags, ours.double) == (theirs.name, theirs.size, theirs.tags, theirs.double)
    assert str(ours) == str(theirs)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict()
    assert Ours._make(tuple(theirs)) == Theirs._make(tuple(theirs)) == ours
    assert ours._replace(size=9) == theirs._replace(size=9)
    assert pickle.loads(pickle.dumps(ours)) == copy.deepcopy(ours) == ours
    assert type(copy.copy(ours)) is Ours


@pytest.mark.parametrize("kind", [Ours, Theirs])
@pytest.mark.parametrize(("args", "named"), WRONG)
def test_refused_alike(kind, args, named):
    with pytest.raises(TypeError):
        kind(*args, **named)


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_nothing_changes_one(kind):
    place = kind("a")
    for name in ("name", "nosuch"):
        with pytest.raises(AttributeError):
            setattr(place, name, "b")
    with pytest.raises((TypeError, ValueError)):
        place._replace(nosuch=1)


def test_classes_alike():
    for name in ("_fields", "_field_defaults", "__match_args__", "__doc__"):
        assert getattr(Ours, name) == getattr(Theirs, name)
    assert Ours.__mro__[1:] == Theirs.__mro__[1:] == (tuple, object)
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)
    match Ours("a"):
        case Ours(name, size):
            assert (name, size) == ("a", 3)
