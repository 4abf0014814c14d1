"""Members by the names of images."""

import pickle
from collections.abc import Sequence

import pytest

from dist_train.data.shards.members import FoundImages, Member
from dist_train.data.shards.places import Places

MEMBERS = [
    ("b/ü.png", 1, Member("b/ü.png", 7, 8, 9, True)),
    ("a/1.png", 0, Member("x", 1 << 40, 3, 3)),
    ("a/10.png", 0, Member("y", 2, 3, 3)),
]


def found(members: Sequence[tuple[str, int, Member]]) -> list[FoundImages]:
    """Return the images as two splits have them."""
    splits = [FoundImages(), FoundImages()]
    for place, (name, shard, member) in enumerate(members):
        splits[place % 2].add(name, "class", shard, member)
    return splits


FOUND = found(MEMBERS)


def test_each_name_leads_to_its_place() -> None:
    places = Places.of(FOUND)
    for name, shard, member in MEMBERS:
        assert places.find(name) == (shard, Member(name, member.offset, member.length, member.size, member.deflated))


@pytest.mark.parametrize("name", ["a/1", "a/1.pn", "a/1.png2", "z", "", "a/1.png\0"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(KeyError):
        Places.of(FOUND).find(name)


def test_places_are_small() -> None:
    many = Places.of(found([(f"train/class/{n:07d}.jpg", 0, Member("", n, 1, 1)) for n in range(10_000)]))
    assert len(pickle.dumps(many)) < 70 * 10_000
    assert Places.of([]).names.size == 0


def test_names_of_several_images() -> None:
    places = Places.of(found([*MEMBERS, ("a/1.png", 4, MEMBERS[1][2])]))
    assert places.twice().tolist() == [b"a/1.png"]
    assert places.shards_of(b"a/1.png") == [0, 4]
    assert Places.of(FOUND).twice().size == 0
