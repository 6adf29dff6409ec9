"""The prototype's own figures, each to be read beside what a real hold-out scores: alone they mislead.

- `js`: prefers fewer codes when subjects are few (no noise), so a collapse can beat the truth.
- `top_100_overlap`: the truth does not reach 1, because ties near the hundredth place fall by chance.
- `pairs_per_code`: grows with the number of subjects, so it compares only at equal numbers.
- `ks_visits`, `ks_codes`: 0 by construction when the structure was copied from the subjects compared with.
- `jaccard` of a completion: must leave out the half that was given, or an echo of the prompt scores about 0.5.
- `tpl`, `spl`: longitudinal and spatial perplexity (PromptEHR, Wang and Sun 2022, arXiv 2211.01761), here of a count
  model learnt from the subjects judged and asked about held-out ones, so that any generator has them.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from caretrace.evaluation.fidelity import js_divergence
from caretrace.evaluation.histories import Floats, Histories, Ints, gather
from caretrace.evaluation.views import pair_events

TOP = 100
PRIOR = 5.0  # weight of the overall frequency of a code against counts, in events


def figures(subjects: Histories, held_out: Histories) -> dict[str, float]:
    """All figures of some subjects against as many held-out ones."""
    n = subjects.n_codes
    a, b = (np.bincount(h.code, minlength=n).astype(np.float64) for h in (subjects, held_out))
    return {
        "js": js_divergence(a, b),
        "top_100_overlap": top_overlap(a, b),
        "pairs_per_code": pairs_per_code(subjects),
        "ks_visits": ks(subjects.visit_count, held_out.visit_count),
        "ks_codes": ks(subjects.code_count, held_out.code_count),
        "tpl": perplexity(subjects, held_out, across=True),
        "spl": perplexity(subjects, held_out, across=False),
    }


def top_overlap(a: Floats, b: Floats, top: int = TOP) -> float:
    """Share of the `top` commonest codes of one that are among those of the other; fewer codes, fewer places."""
    places = min(top, len(a))
    first, second = (set(np.argsort(-x, kind="stable")[:places][x[np.argsort(-x, kind="stable")[:places]] > 0])
                     for x in (a, b))  # fmt: skip
    return len(first & second) / places


def pairs_per_code(histories: Histories) -> float:
    """Different pairs of codes seen in a visit, per different code."""
    return len(np.unique(pair_events(histories).feature)) / max(len(np.unique(histories.code)), 1)


def ks(a: Ints, b: Ints) -> float:
    """Kolmogorov-Smirnov distance of two samples of whole numbers; 0 where either is empty."""
    if not len(a) or not len(b):
        return 0.0
    most = int(max(a.max(), b.max())) + 1
    shares = [np.cumsum(np.bincount(x, minlength=most)) / len(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def completion_jaccard(revealed: Histories, completed: Histories, truth: Histories) -> dict[str, float]:
    """Mean overlap of completed with true codes over subjects, honest (`hidden`) and as the prototype had it (`all`).

    Args:
        revealed: What the generator was given; subjects in the same order everywhere.
        completed: What it gave back, the given part included or not.
        truth: The whole histories.
    """
    n = truth.n_codes
    given, back, true = (np.unique(h.token_subject * n + h.code) for h in (revealed, completed, truth))
    whole = _mean_jaccard(np.union1d(back, given), true, n, len(truth))
    hidden = _mean_jaccard(np.setdiff1d(back, given), np.setdiff1d(true, given), n, len(truth))
    return {"hidden": hidden, "all": whole}


def _mean_jaccard(a: Ints, b: Ints, n_codes: int, subjects: int) -> float:
    both = np.bincount(np.intersect1d(a, b) // n_codes, minlength=subjects)
    either = np.bincount(np.union1d(a, b) // n_codes, minlength=subjects)
    return float((both[either > 0] / either[either > 0]).mean()) if either.any() else 0.0


def perplexity(source: Histories, test: Histories, across: bool) -> float:
    """Perplexity per code of test subjects under counts of source subjects.

    p(code | context) is the mean over context codes u of (N(u, code) + PRIOR p(code)) / (N(u) + PRIOR).

    Args:
        source: Where the counts come from.
        test: Whose codes are asked about.
        across: The context is the visit before (longitudinal); otherwise the other codes of the visit (spatial).

    Returns:
        exp of the mean negative log-likelihood; the number of codes where no code has a context.
    """
    n = source.n_codes
    overall = np.bincount(source.code, minlength=n) + 0.5
    overall = overall / overall.sum()
    context, code, _ = _contexts(source, across)
    counts = csr_array((np.ones(len(code)), (context, code)), shape=(n, n))
    totals: Floats = np.asarray(counts.sum(1))
    context, code, token = _contexts(test, across)
    if not len(code):
        return float(n)
    seen = np.asarray(counts[context, code]).reshape(-1)
    each = (seen + PRIOR * overall[code]) / (totals[context] + PRIOR)
    asked, place = np.unique(token, return_inverse=True)
    mean = np.bincount(place, each) / np.bincount(place, minlength=len(asked))
    return float(np.exp(-np.log(mean).mean()))


def _contexts(histories: Histories, across: bool) -> tuple[Ints, Ints, Ints]:
    """One row per context code of a code: the context code, the code, the place of the code."""
    clean = histories.with_codes_sorted()
    visit = clean.token_visit
    token = np.arange(len(clean.code))
    if across:
        token = token[clean.visit_rank[visit] > 0]
    before = visit[token] - (1 if across else 0)
    target = np.repeat(token, clean.code_count[before])
    context = gather(clean.code_count, before)
    kept = context != target
    return clean.code[context[kept]], clean.code[target[kept]], target[kept]
