"""How far is a run on the virtual hospital from what could be known? The oracle's AUROC and AUPRC beside the run's.

    python benchmarks/ceiling.py RUN RAW

RUN was trained on the dataset ingested from RAW, which `caretrace simulate` wrote, and evaluated. The oracle
is the chance of ICU death within reach given everything latent at 24 h, from RAW/truth; ingest never reads it.
"""

import argparse
from pathlib import Path

import polars as pl
from compare_runs import read, show

from caretrace import schema

_HOURS = 24


def main() -> None:
    """Judge oracle and run on the same labels."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("raw", type=Path)
    asked = parser.parse_args()
    found = read(asked.run).rename({schema.PREDICTED_PROBABILITY: "run"})
    table = found.join(oracle(asked.raw), on=[schema.SUBJECT_ID, schema.PREDICTION_TIME], how="inner")
    print(f"{len(found) - len(table)} of {len(found)} labels have no oracle and are left out")
    show(table, ["oracle", "run"])


def oracle(raw: Path) -> pl.DataFrame:
    """The oracle's chance of ICU death, by subject and hour 24 of the stay."""
    begun = pl.read_csv(raw / "icu_stays.csv", try_parse_dates=True).select(
        "stay_id", (pl.col("in_time") + pl.duration(hours=_HOURS)).alias(schema.PREDICTION_TIME)
    )
    truth = pl.read_parquet(raw / "truth" / "stays.parquet")
    return (
        truth.join(begun, on="stay_id")
        .select(
            schema.SUBJECT_ID,
            pl.col(schema.PREDICTION_TIME).cast(pl.Datetime("us")),
            oracle=f"oracle_icu_death_{_HOURS}h",
        )
        .drop_nulls()
    )


if __name__ == "__main__":
    main()
