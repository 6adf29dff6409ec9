"""Which measurements stand or fall together: one number per measurement, -1 where padded.

"Event" is used as in the glossary: all measurements of a subject at one time.
"""

import numpy as np
import torch

from caretrace.data.batch import EventBatch
from caretrace.errors import ConfigError

NOBODY = -1

Groups = np.ndarray  # int64 [measurement]


def each(sample: EventBatch) -> Groups:
    """Every measurement by itself."""
    return _numbered(sample, np.arange(sample.code.shape[1]))


def events(sample: EventBatch) -> Groups:
    """What was measured at the same time."""
    return _numbered(sample, sample.time_hours[0].cpu().numpy())


def codes(sample: EventBatch) -> Groups:
    """All measurements of a code."""
    return _numbered(sample, sample.code[0].cpu().numpy())


def types(sample: EventBatch) -> Groups:
    """All measurements of an event type; group numbers follow the order of `schema.EventType`."""
    return _numbered(sample, sample.event_type[0].cpu().numpy())


def windows(sample: EventBatch, hours: float) -> Groups:
    """What was measured in the same window of `hours`, counted back from the prediction time; latest first."""
    age = np.floor(-sample.time_hours[0].cpu().numpy().astype(np.float64) / hours)
    return _numbered(sample, age)


def alike(sample: EventBatch, *keys: np.ndarray) -> Groups:
    """What agrees in every key; keys have one number per measurement. Groups follow the order of the keys."""
    columns = np.stack(keys, axis=1)
    return _numbered(sample, np.unique(columns, axis=0, return_inverse=True)[1].reshape(-1))


def chosen(sample: EventBatch, *parts: list[int]) -> Groups:
    """Measurements that are named: the first part is group 0, the second group 1 …; the rest is in none."""
    groups = np.full(sample.code.shape[1], NOBODY)
    for number, part in enumerate(parts):
        groups[part] = number
    return groups


def checked(sample: EventBatch, groups: Groups) -> Groups:
    """The same groups.

    Raises:
        ConfigError: There is not one number per measurement. (Captum takes a mask that is too short without a
            word and gives zeros, pull request 1922.)
    """
    if groups.shape != (sample.code.shape[1],):
        raise ConfigError(
            f"groups: got shape {groups.shape}, expected one number per measurement, ({sample.code.shape[1]},)"
        )
    padding = sample.padding_mask[0].cpu().numpy()
    if (groups[padding] != NOBODY).any():
        raise ConfigError(f"groups: a padded slot is in a group; padding belongs to {NOBODY}")
    return groups


def n_groups(groups: Groups) -> int:
    """Number of groups."""
    return int(groups.max(initial=NOBODY)) + 1


def members(groups: Groups) -> np.ndarray:
    """Which measurement is in which group, bool [group, measurement]."""
    return groups[None, :] == np.arange(n_groups(groups))[:, None]


def summed(groups: Groups, credit: np.ndarray) -> np.ndarray:
    """Credit of each group as the sum of its measurements', [group]."""
    inside = groups != NOBODY
    return np.bincount(groups[inside], credit[inside], n_groups(groups))


def _numbered(sample: EventBatch, keys: np.ndarray) -> Groups:
    """Consecutive numbers in the order of the keys."""
    kept = ~sample.padding_mask[0].cpu().numpy()
    groups = np.full(len(keys), NOBODY)
    groups[kept] = np.unique(keys[kept], return_inverse=True)[1]
    return groups


def drop_mask(groups: Groups, *numbers: int) -> torch.Tensor:
    """Mask of the measurements of some groups, bool [1, measurement]."""
    return torch.from_numpy(np.isin(groups, numbers))[None]
