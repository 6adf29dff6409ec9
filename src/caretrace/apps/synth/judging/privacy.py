"""What synthetic subjects give away about training subjects."""

from __future__ import annotations

from caretrace.apps.synth.judging.verdict import SPREADS, Evidence, Sets, Verdict
from caretrace.evaluation import fidelity, privacy

MEMBERSHIP = 0.52  # of the issue
# Ours: smaller differences than these are of no consequence, however surely they are measured.
ATTRIBUTE_GAIN = 0.02
TPR = 0.02


def judge_privacy(verdict: Verdict, sets: Sets, draws: fidelity.Plan, known: Evidence) -> None:
    """Membership, attribute inference, canaries."""
    train, held_out, synthetic = sets
    if known.likelihoods is not None:
        given = known.likelihoods
        attack = privacy.membership(
            privacy.likelihood_ratio(given.train, given.train_reference),
            privacy.likelihood_ratio(given.held_out, given.held_out_reference),
            known.seed,
        )
        name = "membership"
    else:
        half = len(draws.test) // 2
        reference = held_out.take(draws.test[:half])
        source = synthetic.take(draws.synthetic[0][:half])
        attack = privacy.membership(
            privacy.distance_scores(train.take(draws.train[0][:half]), source, reference),
            privacy.distance_scores(held_out.take(draws.test[half : 2 * half]), source, reference),
            known.seed,
        )
        name = "distance_membership"
    verdict.figure(f"{name}_auroc", attack.auroc.value, attack.auroc.low, attack.auroc.high)
    verdict.figure(f"{name}_tpr", attack.tpr)
    verdict.most(f"{name}_auroc", attack.auroc.value, 0.5 + SPREADS * attack.auroc.error, MEMBERSHIP)
    verdict.most(f"{name}_tpr", attack.tpr, max(privacy.FPR + SPREADS * attack.tpr_error, TPR))
    inference = privacy.attribute_inference(
        train, held_out.take(draws.test), synthetic.take(draws.synthetic[0]), known.seed
    )
    half_width = fidelity.Z_95 * inference.error
    gain = inference.gain
    verdict.figure("attribute_inference_gain", gain, gain - half_width, gain + half_width)
    verdict.figure("attribute_inference_f1", inference.synthetic)
    verdict.floor("attribute_inference_f1", inference.held_out)
    verdict.most("attribute_inference_gain", gain, max(SPREADS * inference.error, ATTRIBUTE_GAIN))
    if known.canaries is not None:
        planted, controls = (
            float((privacy.canary_hits(synthetic, one) > 0).mean())
            for one in (known.canaries.planted, known.canaries.controls)
        )
        verdict.figure("canaries", planted)
        verdict.floor("canaries", controls)
        verdict.most("canaries", planted, controls)
