"""Windows, types over time, landmarks: on scores whose answer is known."""

import numpy as np
import torch

from caretrace.explain.attention import received, rollout
from caretrace.explain.groups import alike
from caretrace.explain.patterns import at_landmark, critical_windows, evolution, types_over_time
from caretrace.explain.removal import removal

from .toy import additive, make, present

# Six measurements, hours -5 … 0.
SAMPLE = make([[4, 5, 6, 7, 4, 8]])
WEIGHTS = {4: 1.0, 5: -3.0, 8: 0.5}


def test_critical_windows_are_ordered_by_what_they_hold() -> None:
    found = critical_windows(additive(WEIGHTS), SAMPLE, 2.0)
    assert [(w.from_hours, w.to_hours, w.measurements, w.credit) for w in found] == [
        (6.0, 4.0, 2, -2.0),
        (2.0, 0.0, 2, 1.5),
        (4.0, 2.0, 2, 0.0),
    ]


def test_a_window_of_redundant_events_counts_though_none_of_them_does() -> None:
    either = lambda b: 2.0 * torch.maximum(present(b, 6), present(b, 7))  # noqa: E731
    found = critical_windows(either, SAMPLE, 2.0)
    assert (found[0].from_hours, found[0].credit) == (4.0, 2.0)
    assert removal(either, SAMPLE).credit.max() == 0.0


def test_types_over_time_add_up() -> None:
    found = types_over_time(SAMPLE, removal(additive(WEIGHTS), SAMPLE), 3.0)
    # Codes 4 and 8 are of type 0, code 5 of type 1; code 4 stands at -5 h and at -1 h, code 5 at -4 h.
    assert found[0].tolist() == [1.5, 1.0]
    assert found[1].tolist() == [0.0, -3.0]
    assert found.sum() == -0.5


def test_at_a_landmark_nothing_later_is_known() -> None:
    then = at_landmark(SAMPLE, 2.5)
    assert then.code.tolist() == [[4, 5, 6]]
    assert then.time_hours.tolist() == [[-2.5, -1.5, -0.5]]


def test_evolution_follows_the_record() -> None:
    found = evolution(additive(WEIGHTS), SAMPLE, (0.0, 3.0, 10.0, 4.0))
    assert found.hours_earlier.tolist() == [10.0, 4.0, 3.0, 0.0]
    assert found.logits.tolist() == [0.0, -2.0, -2.0, -0.5]
    assert found.codes.tolist() == [4, 5, 6, 7, 8]
    assert found.credit.tolist() == [
        [0, 0, 0, 0, 0],
        [1, -3, 0, 0, 0],
        [1, -3, 0, 0, 0],
        [2, -3, 0, 0, 0.5],
    ]


def test_rollout_of_layers_that_look_at_themselves_is_the_identity() -> None:
    identity = torch.eye(4).expand(2, 1, 3, 4, 4)
    assert torch.equal(rollout(identity)[0], torch.eye(4))


def test_rollout_follows_a_chain() -> None:
    """Step 2 looks at 1 in the second layer, 1 looked at 0 in the first: a quarter comes from 0."""
    first, second = torch.eye(3), torch.eye(3)
    first[1] = torch.tensor([1.0, 0.0, 0.0])
    second[2] = torch.tensor([0.0, 1.0, 0.0])
    found = rollout(torch.stack([first, second])[:, None, None])[0]
    assert np.allclose(found[2], [0.25, 0.25, 0.5])
    assert np.allclose(found.sum(-1), 1.0)


def test_received_weight() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[None, None, None]
    assert received(weights)[0, 0, 0].tolist() == [1.5, 0.5]


def test_evolution_of_some_codes_only() -> None:
    found = evolution(additive(WEIGHTS), SAMPLE, (0.0, 4.0), codes=[5, 8, 99])
    assert found.codes.tolist() == [5, 8]
    assert found.credit.tolist() == [[-3, 0], [-3, 0.5]]
    assert found.logits.tolist() == [-2.0, -0.5]


def test_what_agrees_in_every_key_is_one_group() -> None:
    groups = alike(SAMPLE, np.array([1, 1, 0, 0, 1, 0]), np.array([2, 3, 3, 3, 2, 3]))
    assert groups.tolist() == [1, 2, 0, 0, 1, 0]
