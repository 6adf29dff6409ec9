"""From a dataset to sequences of every kind, part by part of its time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from caretrace.application import Progress, silent
from caretrace.apps.safety.blocks import split_blocks
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.hospital_steps import hospital_sequences
from caretrace.apps.safety.pathway_steps import pathway_sequences
from caretrace.apps.safety.pathways import collect_episodes
from caretrace.apps.safety.sequences import HOSPITAL, HOUR, PATHWAY, STAFF, Sequences
from caretrace.apps.safety.site_hours import SiteHours, collect_site_hours
from caretrace.apps.safety.staff_steps import staff_sequences
from caretrace.dataset import Dataset
from caretrace.errors import CohortError

# Of all subjects, whichever split ingest put them in: time is what parts training from the rest.
Kinds = dict[str, Sequences]


def read_whole(dataset: Dataset, config: SafetyConfig, progress: Progress = silent) -> Kinds:
    """Every kind of sequence over all the time of a dataset, as one block."""
    return read_city(dataset, config, 0, progress)[0]


def read_splits(
    dataset: Dataset, config: SafetyConfig, splits: Sequence[str], progress: Progress = silent
) -> dict[str, Kinds]:
    """Every kind of sequence in the blocks of each split.

    Args:
        dataset: MEDS dataset of a city.
        config: Settings; `block_days` is the length of a block.
        splits: Names of MEDS splits.
        progress: Told about each piece of work.

    Returns:
        Split → kind → sequences.

    Raises:
        CohortError: Too short a time for three blocks, or nothing to read.
    """
    kinds, hours = read_city(dataset, config, config.block_days, progress)
    return parts_of(kinds, hours, config, splits)


def parts_of(kinds: Kinds, hours: SiteHours, config: SafetyConfig, splits: Sequence[str]) -> dict[str, Kinds]:
    """Split → kind → the steps in its blocks, of what `read_city` read with these blocks.

    Raises:
        CohortError: Too short a time for three blocks.
    """
    blocks, span = split_blocks(hours.n_hours, config.block_days), 24 * config.block_days
    block = (pl.col(HOUR) // span).cast(pl.Int64)
    return {
        split: {kind: each.where(block.is_in(blocks[split].tolist())) for kind, each in kinds.items()}
        for split in splits
    }


def read_city(
    dataset: Dataset, config: SafetyConfig, block_days: int = 0, progress: Progress = silent
) -> tuple[Kinds, SiteHours]:
    """Every kind of sequence, and the hospitals on their clock.

    Args:
        dataset: MEDS dataset of a city.
        config: Settings; which kinds, and how many pathways.
        block_days: No sequence and no target crosses the borders of such blocks; 0 makes one block of all.
        progress: Told about each piece of work.

    Raises:
        CohortError: Nothing to read.
    """
    progress("reading pathways", 0, 3)
    episodes = collect_episodes(dataset)
    progress("reading hospitals", 1, 3)
    hours = collect_site_hours(dataset, episodes)
    progress("reading staff", 2, 3)
    most, seed = config.most_pathways, config.descent.seed
    readers = {
        HOSPITAL: lambda: hospital_sequences(hours, block_days),
        PATHWAY: lambda: pathway_sequences(episodes, hours, block_days, most, seed),
        STAFF: lambda: staff_sequences(dataset, hours, block_days),
    }
    found = {kind: readers[kind]() for kind in config.kinds}
    progress("reading staff", 3, 3)
    kinds = {kind: each for kind, each in found.items() if len(each)}
    if not kinds:
        raise CohortError(f"{dataset.path}: none of {', '.join(config.kinds)} is there to learn from")
    return kinds, hours
