"""What the service asks of a run: what subjects drawn from it look like."""

from __future__ import annotations

from typing import Any

import numpy as np

from caretrace.application.run import Run
from caretrace.apps.synth.codes import icd9
from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.apps.synth.evaluate import DRAWINGS
from caretrace.apps.synth.models.generator import Request, iter_chunks
from caretrace.apps.synth.training import load
from caretrace.evaluation.histories import Histories
from caretrace.evaluation.views import prevalence
from caretrace.files import read_json

DRAWN = 2000
_CODES, _PEOPLE, _CODES_OF_A_VISIT = 30, 12, 6
_BAND_YEARS = 10
_OTHER = "other"


class SynthRun:
    """A generator in memory.

    Args:
        run: The run.

    Raises:
        BundleError: The bundle is damaged.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._generator = load(run.path)
        self._summary: dict[str, Any] | None = None

    def summary(self) -> dict[str, Any]:
        """Ages, commonest codes and some courses of subjects drawn once; nobody among them exists."""
        if self._summary is None:
            parts = [records.histories for _, records in iter_chunks(self._generator, Request(DRAWN))]
            drawn, vocabulary = parts[0], self._generator.vocabulary
            self._summary = {
                "subjects": len(drawn),
                "ages": _ages(drawn),
                "codes": self._codes(drawn, vocabulary),
                "trajectories": [
                    _course(drawn, number, vocabulary) for number in range(min(_PEOPLE, len(drawn)))
                ],
            }
        return self._summary

    def _codes(self, drawn: Histories, vocabulary: Vocabulary) -> list[dict[str, Any]]:
        """The commonest codes, beside their share among held-out subjects where the run was evaluated."""
        share, known = prevalence(drawn), vocabulary.normal_codes
        order = [int(n) for n in np.argsort(-share, kind="stable") if n < len(known)][:_CODES]
        real = self._real()
        found = []
        for number in order:
            words = icd9.ccs_name(known[number])
            found.append(
                {
                    "code": known[number],
                    "words": words,
                    "share": float(share[number]),
                    "real_share": real.get(f"{known[number]} {words}"),
                }
            )
        return found

    def _real(self) -> dict[str, float]:
        path = self._run.evaluation / DRAWINGS
        if not path.is_file():
            return {}
        stored = read_json(path)["prevalence"]
        return dict(zip(stored["codes"], stored["real"], strict=True))


def open_run(run: Run) -> SynthRun:
    """The run in memory."""
    return SynthRun(run)


def _ages(drawn: Histories) -> list[dict[str, Any]]:
    band = np.minimum(drawn.age // _BAND_YEARS, 9)
    found = []
    for number in np.unique(band).tolist():
        name = "90+" if number == 9 else f"{number * _BAND_YEARS}-{number * _BAND_YEARS + _BAND_YEARS - 1}"
        here = band == number
        counts = {sex: int((here & (drawn.sex == place)).sum()) for place, sex in enumerate("FM")}
        found.append({"band": name, **counts})
    return found


def _course(drawn: Histories, subject: int, vocabulary: Vocabulary) -> str:
    """One synthetic subject in a sentence."""
    one = drawn.take(np.array([subject]))
    who = f"{'woman' if one.sex[0] == 0 else 'man'}, {int(one.age[0])} years"
    visits, begin = [], 0
    for number, size in enumerate(one.code_count.tolist(), start=1):
        names = [
            _name(vocabulary, int(code)) for code in one.code[begin : begin + min(size, _CODES_OF_A_VISIT)]
        ]
        more = f" and {size - _CODES_OF_A_VISIT} more" if size > _CODES_OF_A_VISIT else ""
        visits.append(f"visit {number}: {', '.join(dict.fromkeys(names))}{more}")
        begin += size
    return f"A {who}: {'; '.join(visits)}."


def _name(vocabulary: Vocabulary, code: int) -> str:
    known = vocabulary.normal_codes
    return icd9.ccs_name(known[code]) if code < len(known) else _OTHER
