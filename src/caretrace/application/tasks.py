"""Which task of an application to label a dataset by."""

from __future__ import annotations

from caretrace.application import Supervised
from caretrace.cohort import Task, default_task, read_task
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, unknown_name


def find_task(application: Supervised, dataset: Dataset, name: str | None = None) -> Task:
    """The task called `name`, or the first of the application that the dataset can answer.

    Raises:
        CohortError: No such task, or none fits.
    """
    names = application.task_order
    if name is not None and name not in names:
        raise CohortError(unknown_name(f"task of {application.name}", name, names))
    tasks = [read_task(application.tasks / f"{each}.yaml") for each in ([name] if name else names)]
    return tasks[0] if name else default_task(tasks, dataset)
