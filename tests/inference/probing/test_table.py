"""The order of the models, and what the table says."""

from typing import Any

from dist_train.config import parse_config
from dist_train.data.index import scan
from dist_train.inference.probing.judge import Verdict
from dist_train.inference.probing.table import Found, Speed, document, ranked, table


def _found(name: str, score: float, weights: str = "published") -> Found:
    verdicts = {"linear": Verdict(score, 1.25, 0.01), "knn": Verdict(score - 2, 1.5, 5)}
    return Found(name, weights, 4_650_000, 0.78, 1280, (224, 224), verdicts, Speed(123.0, 8, 3))


def test_the_best_comes_first_whichever_way_the_metric_goes() -> None:
    rows = [_found("a", 70), _found("b", float("nan")), _found("c", 80)]
    assert [row.name for row in ranked(rows, "top1")] == ["c", "a", "b"]
    assert [row.name for row in ranked(rows, "mae")] == ["a", "c", "b"]


def test_lines_and_document(tree: dict[str, Any]) -> None:
    cfg = parse_config(tree)
    index, rows = scan(cfg.data), [_found("a", 71.5), _found("longer_name", 70, "random")]
    head, first, _, *rest = table(rows, index, cfg)
    assert head.split() == ["model", "logistic", "C", "k-NN", "k", "params", "GFLOP", "px", "images/s", "seconds"]
    assert first.split() == [
        "a",
        *["71.5", "+-", "1.2", "0.01", "69.5", "+-", "1.5", "5", "4.65M", "0.78", "224", "123", "11"],
    ]
    text = " ".join(rest)
    assert "top1 on 23 validation images" in text
    assert "random weights" in text
    written = document(rows, index, cfg)
    assert written["models"][0]["verdicts"]["linear"] == {"score": 71.5, "error": 1.25, "setting": 0.01}
