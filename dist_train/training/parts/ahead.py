"""Import before the first step what a run needs later: from then on its code may be edited or removed."""

from dist_train.config.choice_table import Task
from dist_train.config.choices import METRICS
from dist_train.config.user_code import function_of


def import_ahead(task: Task) -> None:
    """Import all that the evaluations and the end of a run need. For rank 0, which computes the metrics."""
    for name in METRICS.of_task(task):
        function_of(METRICS, name)
