"""A member that lies outside its archive."""

import pytest

from dist_train.data.shards.members import Member, is_inside


@pytest.mark.parametrize(("offset", "length", "inside"), [(0, 10, True), (5, 6, False), (-1, 3, False), (4, -1, False)])
def test_is_inside(offset: int, length: int, inside: bool) -> None:
    assert is_inside(Member("a", offset, length, length), 10) == inside
