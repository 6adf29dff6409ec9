"""HTML reports from what lies on disk: one page per run, one per dataset; no model is loaded."""

from caretrace.report.dataset_page import render_dataset_page
from caretrace.report.run_page import render_run_report
from caretrace.report.summary import summarise_dataset

__all__ = ["render_dataset_page", "render_run_report", "summarise_dataset"]
