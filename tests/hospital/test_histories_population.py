"""The default population: its codes, its limits, its long tail, its memory; and the tables written from it."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.errors import ConfigError, OutputExistsError
from caretrace.hospital.histories import (
    Drawn,
    catalogue,
    ccs_labels,
    default_model,
    draw,
    entropy_rate,
    log_likelihoods,
    profiles,
    simulate_histories,
)
from caretrace.hospital.histories.catalogue import CHRONIC_CCS

SUBJECTS = 8000
AGE_EDITS = {
    "newborn": (0, 0),
    "pediatric": (0, 17),
    "maternity": (12, 55),
    "adult": (15, 124),
}  # as published


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(SUBJECTS, 0, default_model())


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("histories") / "raw"
    simulate_histories(folder, 3000, 9)
    return folder


def table_limits() -> pl.DataFrame:
    """The limits as the shipped table has them, read without the package's own reader."""
    path = Path(profiles.__file__).with_name("icd9.csv")
    return pl.read_csv(path, schema_overrides={"code": pl.String, "sex": pl.String, "ages": pl.String})


def test_profiles_name_categories_of_the_right_kind() -> None:
    for phenotype in profiles.PHENOTYPES:
        assert CHRONIC_CCS.issuperset(phenotype.leading), phenotype.name
    acute = set(ccs_labels()) - CHRONIC_CCS
    for episode in profiles.EPISODES:
        assert acute.issuperset(episode.leading), episode.name


def test_codes_are_many_and_their_tail_is_long(drawn: Drawn) -> None:
    h = drawn.histories
    count = np.sort(np.bincount(h.code))[::-1]
    assert len(catalogue()) > 3500
    assert (count > 0).sum() >= 2000
    assert 0.1 < count[:10].sum() / count.sum() < 0.3
    slope = np.polyfit(np.log(np.arange(1, 501)), np.log(count[:500]), 1)[0]
    assert -1.3 < slope < -0.6  # Zipf-like
    assert (count[count > 0] < 10).mean() > 0.3


def test_visits_and_codes_are_one_to_twenty(drawn: Drawn) -> None:
    h = drawn.histories
    assert h.visit_count.min() == h.code_count.min() == 1
    assert h.code_count.max() == 20
    assert 15 <= h.visit_count.max() <= 20
    assert 6 < h.code_count.mean() < 11
    assert (np.diff(h.code)[np.diff(h.token_visit) == 0] > 0).all()  # sets: increasing, no duplicates


def test_no_code_is_on_a_sex_it_excludes(drawn: Drawn) -> None:
    h, limits = drawn.histories, table_limits()
    sex = np.array(["F", "M"])[h.sex][h.visit_subject[h.token_visit]]
    only = limits["sex"].fill_null("").to_numpy()[h.code]
    assert ((only == "") | (only == sex)).all()
    assert min((only == "F").sum(), (only == "M").sum()) > 100


def test_chronic_codes_come_again_and_acute_ones_seldom(drawn: Drawn) -> None:
    h, model = drawn.histories, default_model()
    present = set(zip(h.token_visit, h.code, strict=True))
    more = h.visit_rank + 1 < h.visit_count[h.visit_subject]
    again = {True: [], False: []}
    for visit, code in present:
        if more[visit]:
            again[bool(model.chronic[code])].append((visit + 1, code) in present)
    assert 0.55 < np.mean(again[True]) < 0.75
    assert np.mean(again[False]) < 0.2


def test_age_and_sex_matter_beside_the_limits(drawn: Drawn) -> None:
    h, model = drawn.histories, default_model()
    who = h.visit_subject[h.token_visit]
    has = {c: np.unique(who[h.code == model.code_index[c]]) for c in ("4280", "73300", "30301", "41401")}
    assert h.age[has["4280"]].mean() > h.age.mean() + 12
    assert (h.sex[has["73300"]] == 0).mean() > 0.7  # osteoporosis
    assert (h.sex[has["30301"]] == 0).mean() < 0.4  # alcohol
    assert (h.sex[has["41401"]] == 0).mean() < 0.45  # coronary disease


def test_the_same_seed_draws_the_same_and_more_subjects_leave_the_first_alone() -> None:
    model = default_model()
    few, many = draw(700, 5, model), draw(1300, 5, model).part(0, 700)
    for a, b in ((few, many), (few, draw(700, 5, model))):
        for name in ("age", "sex", "visit_count", "code_count", "code"):
            assert np.array_equal(getattr(a.histories, name), getattr(b.histories, name)), name
        assert np.array_equal(a.phenotype, b.phenotype)
        assert np.array_equal(a.episode, b.episode)
    other = draw(700, 6, model).histories
    assert not np.array_equal(few.histories.age, other.age)


def test_another_construction_is_another_population() -> None:
    assert default_model(0).fingerprint() == default_model.__wrapped__(0).fingerprint()
    assert default_model(0).fingerprint() != default_model(1).fingerprint()


def test_tables_agree_with_each_other(raw: Path) -> None:
    patients, admissions = (read(raw, name) for name in ("PATIENTS", "ADMISSIONS"))
    diagnoses = read(raw, "DIAGNOSES_ICD")
    assert patients["subject_id"].is_unique().all()
    assert patients.height == 3000
    assert admissions["hadm_id"].is_unique().all()
    assert set(admissions["subject_id"]) == set(patients["subject_id"])
    assert set(diagnoses["hadm_id"]) == set(admissions["hadm_id"])
    assert diagnoses.select("hadm_id", "icd9_code").is_unique().all()
    listed = diagnoses.group_by("hadm_id", maintain_order=True).agg("seq_num")["seq_num"]
    assert all(list(places) == list(range(1, len(places) + 1)) for places in listed)
    assert (admissions["dischtime"] > admissions["admittime"]).all()
    ordered = admissions.sort("subject_id", "admittime")
    following = ordered.filter(pl.col("subject_id") == pl.col("subject_id").shift())["admittime"]
    leaving = ordered.filter(pl.col("subject_id") == pl.col("subject_id").shift(-1))["dischtime"]
    assert ordered["hadm_id"].is_sorted()
    assert (following > leaving).all()
    truth = pl.read_parquet(raw / "truth" / "subjects.parquet")
    assert truth["subject_id"].equals(patients["subject_id"])
    assert pl.read_parquet(raw / "truth" / "visits.parquet")["hadm_id"].equals(admissions["hadm_id"])
    assert (
        json.loads((raw / "truth" / "population.json").read_text())["fingerprint"]
        == default_model().fingerprint()
    )


def test_nobody_is_admitted_at_an_age_their_codes_exclude(raw: Path) -> None:
    """By the calendar and by days / 365.25, for every visit, against the Medicare Code Editor's table."""
    stays = (
        read(raw, "ADMISSIONS")
        .join(read(raw, "PATIENTS"), on="subject_id")
        .join(
            pl.read_parquet(raw / "truth" / "subjects.parquet").select("subject_id", first_age="age"),
            on="subject_id",
        )
    )
    had_birthday = pl.col("admittime").dt.strftime("%m%d") >= pl.col("dob").dt.strftime("%m%d")
    stays = stays.with_columns(
        calendar=pl.col("admittime").dt.year() - pl.col("dob").dt.year() - (~had_birthday).cast(pl.Int32),
        counted=((pl.col("admittime") - pl.col("dob")).dt.total_days() / 365.25).floor().cast(pl.Int32),
    )
    first = stays.unique("subject_id", keep="first", maintain_order=True)
    assert (first["calendar"] == first["first_age"]).all()
    assert (first["counted"] == first["first_age"]).all()
    limits = (
        table_limits()
        .drop_nulls("ages")
        .with_columns(pl.col("ages").str.split("+"))
        .explode("ages", empty_as_null=True)
    )
    spans = pl.DataFrame(
        [(n, *span) for n, span in AGE_EDITS.items()], schema=["ages", "low", "high"], orient="row"
    )
    limited = (
        read(raw, "DIAGNOSES_ICD")
        .join(limits.join(spans, on="ages"), left_on="icd9_code", right_on="code")
        .join(stays.select("hadm_id", "calendar", "counted", "admittime"), on="hadm_id")
    )
    assert limited["ages"].value_counts()["count"].min() > 0
    assert set(limited["ages"]) == set(AGE_EDITS)
    for age in ("calendar", "counted"):
        assert limited.filter(~pl.col(age).is_between(pl.col("low"), pl.col("high"))).is_empty(), age
    later = limited.filter((pl.col("hadm_id") % 100 > 1) & (pl.col("ages") == "newborn"))
    assert later.height > 0  # the hard case, newborns who come back, is among them


def test_a_list_of_codes_begins_with_a_principal_diagnosis(raw: Path) -> None:
    allowed = set(table_limits().filter(pl.col("first") == 1)["code"])
    lists = read(raw, "DIAGNOSES_ICD").group_by("hadm_id").agg("icd9_code", head=pl.col("icd9_code").first())
    wrong = [codes for codes, head in lists.select("icd9_code", "head").iter_rows() if head not in allowed]
    assert all(allowed.isdisjoint(codes) for codes in wrong)
    assert len(wrong) < 0.02 * lists.height


def test_the_same_seed_writes_the_same_bytes_and_a_smaller_run_is_a_prefix(raw: Path, tmp_path: Path) -> None:
    simulate_histories(tmp_path / "again", 3000, 9)
    simulate_histories(tmp_path / "less", 700, 9)
    names = sorted(str(p.relative_to(raw)) for p in raw.rglob("*") if p.is_file())
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (raw / name).read_bytes(), name
    for name in ("PATIENTS.csv", "ADMISSIONS.csv", "DIAGNOSES_ICD.csv"):
        assert (raw / name).read_bytes().startswith((tmp_path / "less" / name).read_bytes()), name


def test_memory_does_not_grow_with_subjects(tmp_path: Path) -> None:
    simulate_histories(tmp_path / "warm", 500, 0)
    peaks = []
    for subjects in (1000, 5000):
        tracemalloc.start()
        simulate_histories(tmp_path / str(subjects), subjects, 0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_progress_counts_every_subject_and_what_exists_is_left_alone(tmp_path: Path) -> None:
    done: list[float] = []
    simulate_histories(tmp_path / "a", 510, 0, progress=done.append)
    assert done == [500, 10]
    with pytest.raises(OutputExistsError, match="already exists"):
        simulate_histories(tmp_path / "a", 510, 0)


def test_impossible_samples_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="subjects: got 0; give 1 or more"):
        simulate_histories(tmp_path / "a", 0, 0)
    with pytest.raises(ConfigError, match="seed: got -1; give 0 or more"):
        draw(1, -1, default_model())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_thirty_thousand_subjects_in_a_minute_and_the_entropy_to_half_a_percent() -> None:
    model = default_model()
    start = time.process_time()
    drawn = draw(30_000, 1, model)
    middle = time.process_time()
    log_likelihoods(drawn.histories, model)
    end = time.process_time()
    assert middle - start < 30
    assert end - middle < 60
    found = entropy_rate(model, 2)
    again = entropy_rate(model, 3)
    assert found.relative_halfwidth <= 0.005
    assert found.nats_per_subject == pytest.approx(again.nats_per_subject, rel=0.01)
    assert found.nats_per_code == pytest.approx(again.nats_per_code, rel=0.01)
    assert found.visits_per_subject == pytest.approx(len(drawn.histories.code_count) / 30_000, rel=0.02)


def read(raw: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(raw / f"{name}.csv", schema_overrides={"icd9_code": pl.String}, try_parse_dates=True)
