"""MEDS dataset → labels at a prediction time, with attrition.

Start with `build_labels`; a task file is read by `read_task`.
"""

from caretrace.cohort.attrition import Step
from caretrace.cohort.labels import Labels, build_labels, read_labels
from caretrace.cohort.task import Task, default_task, read_task

__all__ = ["Labels", "Step", "Task", "build_labels", "default_task", "read_labels", "read_task"]
