"""Names of classes: their order, which are the same, which look alike."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_train.data.formats.class_names import ClassFolders, Labels, alike_names, few, natural, same_names, shortened
from dist_train.errors import DataError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


@given(
    st.lists(st.one_of(st.integers(0, 10**30).map(str), st.text(max_size=3), st.sampled_from(["007", "7", "٣", "²"])))
)
def test_whole_numbers_are_sorted_by_value_and_come_before_names(names: list[str]) -> None:
    by_value = sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    assert sorted(names, key=natural) == by_value


def test_a_number_of_any_length_can_be_sorted() -> None:
    assert sorted(["9" * 5000, "1" + "0" * 5000, "a"], key=natural) == ["9" * 5000, "1" + "0" * 5000, "a"]


def test_labels_are_found_in_any_unicode_form() -> None:
    labels = Labels(["b", DECOMPOSED])
    assert [labels.find(name) for name in ("b", DECOMPOSED, COMPOSED, "c")] == [0, 1, 1, None]
    both = Labels([COMPOSED, DECOMPOSED])
    assert [both.find(COMPOSED), both.find(DECOMPOSED)] == [0, 1], "the exact name comes first"
    assert same_names([COMPOSED, "b", DECOMPOSED]) == [[COMPOSED, DECOMPOSED]]


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["Cat", "cat", "dog"], True),
        (["01", "1"], True),
        (["1.0", "1"], True),
        (["traffic_light", "Traffic light"], True),
        (["cat", "cat\u200b"], True),
        (["a\u00a0b", "a b"], True),
        (["-1", "1"], False),
        (["1.5", "15"], False),
        (["cat", "cats"], False),
        (["0", "00"], True),
    ],
)
def test_names_that_look_alike(names: list[str], alike: bool) -> None:
    assert bool(alike_names(names)) == alike


def test_names_in_a_message_are_few_and_short() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few([str(number) for number in range(9)]) == "0, 1, 2, 3, 4, ... (9)"
    assert shortened("a" * 61) == "a" * 60 + "..."


@pytest.mark.parametrize(
    ("split", "class_name", "path", "expected"),
    [
        ("train", "daisy", "1.jpg", "train/daisy/1.jpg"),
        ("", "daisy", "a/1.jpg", "daisy/a/1.jpg"),
        ("val", "a/b", "/data/../1.jpg", "val/a_b/data/1.jpg"),
        ("", ".net", ".hidden/1.jpg", "_net/_hidden/1.jpg"),
        ("", "..", "1.jpg", "_./1.jpg"),
        ("", " ", "__MACOSX/1.jpg", "_/___MACOSX/1.jpg"),
    ],
)
def test_no_name_is_hidden_or_leads_out(split: str, class_name: str, path: str, expected: str) -> None:
    assert ClassFolders().name(split, class_name, path) == expected


def test_two_classes_never_share_a_folder() -> None:
    folders = ClassFolders()
    assert folders.name("train", "a/b", "1.jpg") == folders.name("train", "a/b", "1.jpg")
    with pytest.raises(DataError, match="the classes 'a/b' and 'a_b' would be one folder"):
        folders.name("val", "a_b", "1.jpg")
