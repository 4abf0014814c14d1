"""Values of special types: paths, walltimes, sections."""

from typing import Any

import pytest
from pydantic import ValidationError

from dist_train.config import dump_config, parse_config
from dist_train.config.sections.optim import OptimConfig
from dist_train.config.types import IMAGE_SIZES, height_and_width, seconds_of
from dist_train.config.yaml_text import parse_yaml
from dist_train.errors import ConfigError
from tests.support.runs import changed


def test_a_path_means_what_a_shell_makes_of_it(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    cfg = parse_config(changed(tree, data__root="~/images", run__output_dir="$SCRATCH/runs", data__cache="a/$b"))
    assert (cfg.data.root, cfg.run.output_dir, cfg.data.cache) == ("/home/me/images", "/scratch/me/runs", "a/$b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("5:10", 310), ("1:2:3", 3723), ("1-0", 86400), ("1-00:00:30", 86430), ("2-3:4", 183840)],
)
def test_walltimes_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


def test_a_section_cannot_be_changed() -> None:
    section = OptimConfig(lr=0.1)
    with pytest.raises(ValidationError, match="frozen"):
        section.lr = 0.2  # type: ignore[misc]


@pytest.mark.parametrize("size", [224, [224, 320], [1, 1]])
def test_an_image_size_is_a_side_or_two(size: Any, tree: dict[str, Any]) -> None:
    cfg = parse_config(changed(tree, data__image_size=size, eval__size=size))
    assert height_and_width(cfg.data.image_size or 0) == (tuple(size) if isinstance(size, list) else (size, size))
    assert parse_yaml(dump_config(cfg), "")["eval"]["size"] == size


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "big", [224], [224, 0], [1, 2, 3], ["a", "b"], [], {"a": 1}])
def test_what_is_no_image_size(size: Any, tree: dict[str, Any]) -> None:
    for key, first in (("data__image_size", ""), ("eval__size", "published, or train, or ")):
        with pytest.raises(ConfigError) as caught:
            parse_config(changed(tree, **{key: size}))
        (line,) = str(caught.value).splitlines()
        assert line.startswith(f"`{key.replace('__', '.')}`: ")
        assert line.endswith(f" must be {first}{IMAGE_SIZES}")


@pytest.mark.parametrize("share", [0, 1.2, "large", True, [0.9]])
def test_what_is_no_share(share: Any, tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^`eval.crop_pct`: .* must be published, or a number from 0.01 to 1"):
        parse_config(changed(tree, eval__crop_pct=share))


def test_an_empty_path_is_not_the_current_folder(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "")
    for value in ("", "$SCRATCH"):
        with pytest.raises(
            ConfigError, match=r"`run.output_dir`: '.*' is an empty path \(an empty variable\?\); the cur"
        ):
            parse_config(changed(tree, run__output_dir=value))
    assert parse_config(changed(tree, run__output_dir=""), of_a_run=True).run.output_dir == "", "older runs may have it"
