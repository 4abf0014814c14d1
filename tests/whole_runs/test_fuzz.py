"""A short fuzz; ``python -m tests.whole_runs.fuzz --kills 200`` is the long one."""

from pathlib import Path

from tests.whole_runs.fuzz import SAVE_EVERY, fuzz


def test_ten_random_faults_lose_nothing(tmp_path: Path) -> None:
    report = fuzz(kills=10, seed=1, worlds=(2, 4), output=tmp_path, most_per_run=5)
    assert report["kills"] == 10
    assert report["most_steps_lost_after_a_stop"] == 0
    assert report["most_steps_lost_after_a_kill"] <= SAVE_EVERY
