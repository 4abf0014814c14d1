"""Members by the names of images."""

import pickle

import pytest

from dist_train.data.shards.members import Member
from dist_train.data.shards.places import Places

FOUND = [
    ("b/ü.png", 1, Member("b/ü.png", 7, 8, 9, True)),
    ("a/1.png", 0, Member("x", 1 << 40, 3, 3)),
    ("a/10.png", 0, Member("y", 2, 3, 3)),
]


def test_each_name_leads_to_its_place() -> None:
    places = Places.of(FOUND)
    for name, shard, member in FOUND:
        assert places.find(name) == (shard, Member(name, member.offset, member.length, member.size, member.deflated))


@pytest.mark.parametrize("name", ["a/1", "a/1.pn", "a/1.png2", "z", "", "a/1.png\0"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(KeyError):
        Places.of(FOUND).find(name)


def test_places_are_small() -> None:
    many = Places.of([(f"train/class/{number:07d}.jpg", 0, Member("", number, 1, 1)) for number in range(10_000)])
    assert len(pickle.dumps(many)) < 70 * 10_000
    assert Places.of([]).names.size == 0
