"""Which diagnoses make a visit, and who is left out."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from caretrace import schema
from caretrace.apps.synth.config import HistoryConfig
from caretrace.apps.synth.task import collect_histories, read_vocabulary
from caretrace.dataset import Dataset
from caretrace.errors import CohortError, ConfigError
from caretrace.files import write_json

DAY = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times are naive UTC
DX = "DIAGNOSIS//ICD//9//"


def at(day, hour=0):
    return DAY + dt.timedelta(days=day, hours=hour)


ROWS = [
    # Two stays; the second has its diagnoses during the stay, one of them twice.
    (1, None, "GENDER//F"), (1, DAY - dt.timedelta(days=365.25 * 60.5), "MEDS_BIRTH"),
    (1, at(2), DX + "4019"), (1, at(2), DX + "4280"), (1, at(2), "HOSPITAL_DISCHARGE//Home"),
    (1, at(10), DX + "25000"), (1, at(11), DX + "25000"), (1, at(12), DX + "4019"),
    (1, at(13), "HOSPITAL_DISCHARGE//Home"),
    # Claims without a discharge: one visit per time.
    (2, None, "GENDER//M"), (2, DAY - dt.timedelta(days=365.25 * 30.5), "MEDS_BIRTH"),
    (2, at(1), DX + "0088"), (2, at(5), DX + "0088"), (2, at(5), "DIAGNOSIS//ICD//10//A09"),
    # Left out: no sex; born after the visit; no diagnosis at all.
    (3, DAY - dt.timedelta(days=9999), "MEDS_BIRTH"), (3, at(1), DX + "4019"),
    (4, None, "GENDER//M"), (4, at(100), "MEDS_BIRTH"), (4, at(1), DX + "4019"),
    (5, None, "GENDER//M"), (5, DAY - dt.timedelta(days=9999), "MEDS_BIRTH"),
]  # fmt: skip


@pytest.fixture
def dataset(tmp_path):
    for part in ("data/train", "metadata"):
        (tmp_path / part).mkdir(parents=True)
    frame = pl.DataFrame(
        ROWS,
        schema={schema.SUBJECT_ID: pl.Int64, schema.TIME: pl.Datetime("us"), schema.CODE: pl.String},
        orient="row",
    )
    frame.write_parquet(tmp_path / "data/train/0.parquet")
    pl.DataFrame({schema.CODE: frame[schema.CODE].unique()}).write_parquet(tmp_path / schema.CODES_FILE)
    ids = frame[schema.SUBJECT_ID].unique()
    pl.DataFrame({schema.SUBJECT_ID: ids, schema.SPLIT: [schema.TRAIN] * len(ids)}).write_parquet(
        tmp_path / schema.SPLITS_FILE
    )
    write_json(tmp_path / schema.DATASET_FILE, {})
    return Dataset(tmp_path)


def test_a_visit_is_all_up_to_a_discharge_or_all_of_one_time(dataset):
    vocabulary = read_vocabulary(dataset)
    assert vocabulary.codes == ("0088", "25000", "4019", "4280")
    found = collect_histories(dataset, schema.TRAIN, vocabulary)
    h = found.histories
    assert found.subject_id.tolist() == [1, 2]
    assert h.age.tolist() == [60, 30]
    assert h.sex.tolist() == [0, 1]
    assert h.visit_count.tolist() == [2, 2]
    assert h.code_count.tolist() == [2, 2, 1, 1]
    assert h.code.tolist() == [2, 3, 1, 2, 0, 0]
    assert found.attrition == {
        "with a diagnosis": 4, "sex unknown": 1, "age unknown or impossible": 1, "kept": 2,
    }  # fmt: skip
    assert found.unknown == 0


def test_rare_codes_become_unknown_and_are_counted(dataset):
    vocabulary = read_vocabulary(dataset, HistoryConfig(min_subjects=2))
    assert vocabulary.codes == ("4019",)
    found = collect_histories(dataset, None, vocabulary)
    assert np.array_equal(found.histories.code, [0, 1, 0, 1, 1, 1])
    assert found.unknown == 5  # 25000 was entered twice
    one = collect_histories(dataset, None, vocabulary, HistoryConfig(max_visits=1)).histories
    assert one.visit_count.tolist() == [1, 1]


def test_what_cannot_be_is_refused(dataset):
    with pytest.raises(CohortError, match="nobody has a code that begins with 'CONDITION//'"):
        read_vocabulary(dataset, HistoryConfig(prefix="CONDITION//"))
    with pytest.raises(ConfigError, match="prefix"):
        HistoryConfig(prefix="")
    with pytest.raises(ConfigError, match="min_subjects 0"):
        HistoryConfig(min_subjects=0)
