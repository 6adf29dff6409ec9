"""Pure functions on arrays that judge models: discrimination, calibration, intervals, the summary."""

from caretrace.evaluation.calibration import (
    CalibrationCurve,
    PlattScaling,
    calibration_curve,
    calibration_slope,
    ece,
    logit,
    shift_to_base_rate,
)
from caretrace.evaluation.curves import curves, net_benefit
from caretrace.evaluation.discrimination import Curve, auprc, auroc, brier, pr_curve, roc_curve
from caretrace.evaluation.intervals import (
    METRICS,
    Replicates,
    Resamples,
    bootstrap,
    bootstrap_intervals,
    paired_differences,
)
from caretrace.evaluation.summary import ECE_BOUND, evaluate, gate, recommend

__all__ = [
    "ECE_BOUND",
    "METRICS",
    "CalibrationCurve",
    "Curve",
    "PlattScaling",
    "Replicates",
    "Resamples",
    "auprc",
    "auroc",
    "bootstrap",
    "bootstrap_intervals",
    "brier",
    "calibration_curve",
    "calibration_slope",
    "curves",
    "ece",
    "evaluate",
    "gate",
    "logit",
    "net_benefit",
    "paired_differences",
    "pr_curve",
    "recommend",
    "roc_curve",
    "shift_to_base_rate",
]
