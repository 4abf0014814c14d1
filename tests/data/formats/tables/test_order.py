"""The order of paths, against the same answers found path by path."""

import os
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from dist_train.data.formats.tables import order as table_order
from dist_train.data.formats.tables.order import Order, folder_of

PARTS = st.sampled_from(["a", "b", "a-b", "a0", ".", "..", "", "x.png", ".x", "é"])
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=12)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(PATHS)
def test_names_folders_and_repeats_of_any_paths(paths: list[str]) -> None:
    order = Order.of(paths)
    normal = [*map(os.path.normpath, paths)]
    assert [*order.names] == sorted(normal)
    assert [normal[place] for place in order.places] == [*order.names]
    assert order.plain == (paths == normal)

    assert order.repeats == {
        place: normal.index(name) for place, name in enumerate(normal) if normal.index(name) < place
    }

    by_folder: defaultdict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(normal):
        by_folder[folder_of(name)].append(place)
    folders = order.folders()
    found = {folder: sorted(order.places[number] for number in numbers) for folder, numbers in folders.items()}
    assert found == by_folder
    for folder, numbers in folders.items():
        assert {*order.named(numbers)} == {normal[place] for place in by_folder[folder]}
        assert order.first_place(numbers) == by_folder[folder][0]


def test_a_sorted_table_is_not_copied() -> None:
    paths = [f"a/{number:05}.png" for number in range(3 * table_order.SOME)]
    order = Order.of(paths)
    assert order.names is paths
    assert order.plain
    assert order.places == range(len(paths))
    assert order.folders() == {"a/": range(len(paths))}


def test_an_odd_path_is_seen_at_the_edge_of_the_paths_that_are_looked_at_together() -> None:
    for place in (0, table_order.SOME - 1, table_order.SOME, 2 * table_order.SOME - 1):
        for odd in ("./a/x.png", "a//x.png", "a/./x.png", "b/../a/x.png", "a/x.png/", ""):
            paths = [f"b/{number:05}.png" for number in range(2 * table_order.SOME)]
            paths[place] = odd
            order = Order.of(paths)
            assert not order.plain
            assert os.path.normpath(odd) in order.names
