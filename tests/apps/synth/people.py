"""Histories written out by hand: (age, sex, visits), visits as sets of code numbers."""

import numpy as np

from caretrace.apps.synth.codes.vocabulary import Vocabulary
from caretrace.evaluation.histories import Histories


def histories(people, vocabulary: Vocabulary) -> Histories:
    """One subject per triple; codes of a visit in increasing order."""
    visits = [sorted(visit) for _, _, each in people for visit in each]
    return Histories(
        age=[age for age, _, _ in people],
        sex=[sex for _, sex, _ in people],
        visit_count=[len(each) for _, _, each in people],
        code_count=[len(visit) for visit in visits],
        code=np.array([code for visit in visits for code in visit], np.int64),
        n_codes=vocabulary.n_codes,
    )
