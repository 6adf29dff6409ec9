"""What evaluate, predict and explain say, and that nobody of the staff is told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from caretrace.application.configs import find_config
from caretrace.application.run import Run
from caretrace.application.verbs import evaluate, explain, predict, report, verbs_of
from caretrace.apps.safety.application import APPLICATION
from caretrace.apps.safety.config import SafetyConfig
from caretrace.apps.safety.groups import FEWEST_PEOPLE, staff_groups
from caretrace.apps.safety.model import SafetyModel
from caretrace.apps.safety.sequences import HOUR, SEQUENCE, STAFF, Scaling, Sequences
from caretrace.config import load as load_config
from caretrace.dataset import Dataset
from caretrace.errors import ConfigError


@pytest.fixture(scope="module")
def verdict(run: Run, small_city: tuple[Path, Path]) -> dict:
    return evaluate(APPLICATION, run, Dataset(small_city[1]), replicates=20)


def test_the_verdict_tells_parts_decisions_and_an_outlook(verdict):
    assert set(verdict["by"]) == {"site", "shift", "staff"}
    shifts = verdict["by"]["shift"]
    assert set(shifts) <= {"early", "late", "night"}
    assert shifts
    assert sum(each["n"] for each in shifts.values()) == sum(
        each["n"] for each in verdict["by"]["site"].values()
    )
    assert all(each["low"] <= each["value"] <= each["high"] for each in shifts.values())
    assert set(verdict["by"]["staff"]) <= {"nurse", "physician", "paramedic"}
    assert len(verdict["decision"]["caretrace"]) == len(verdict["decision"]["chances"])
    # Nobody gains more than a warning of every crisis and no other.
    assert max(verdict["decision"]["caretrace"]) <= 1000
    assert len(verdict["outlook"]["hospitals"]) == 2
    assert all(group["people"] >= FEWEST_PEOPLE for group in verdict["outlook"]["staff"])


def test_the_page_tells_the_outlook_in_words(run, verdict):
    page = report(APPLICATION, run).read_text(encoding="utf-8")
    assert verdict["outlook"]["hospitals"][0]["site"] in page
    for words in ("Today", "What drives it", "groups of at least five"):
        assert words in page, words


def test_predictions_have_hospitals_pathways_and_groups(run, small_city, tmp_path):
    found = predict(APPLICATION, run, Dataset(small_city[1]), tmp_path / "said.parquet", split=None)
    table = pl.read_parquet(tmp_path / "said.parquet")
    assert {kind: (table["kind"] == kind).sum() for kind in ("hospital", "pathway", "staff")} == {
        kind: found[kind] for kind in ("hospital", "pathway", "staff")
    }
    hospital = table.filter(pl.col("kind") == "hospital")
    assert set(hospital["target"]) == {"crisis_0_h", "crisis_1_h", "crisis_8_h", "crisis_24_h"}
    assert (
        hospital.select((pl.col("low") <= pl.col("value")) & (pl.col("value") <= pl.col("high")))
        .to_series()
        .all()
    )
    delay = table.filter(pl.col("target") == "delay")
    assert (delay["low"] < delay["high"]).all()
    staff = table.filter(pl.col("kind") == "staff")
    assert staff["subject_id"].is_null().all()
    assert staff["people"].min() >= FEWEST_PEOPLE


def test_only_hospitals_are_explained(run, small_city):
    found = explain(APPLICATION, run)
    assert len(found["rows"]) == 2
    assert len(found["columns"]) == len(found["rows"][0])
    person = pl.scan_parquet(small_city[1] / "data" / "**" / "*.parquet")
    code = pl.col("code").cast(pl.String)
    staff = person.filter(code.str.starts_with("DUTY//")).select("subject_id").first().collect().item()
    with pytest.raises(ConfigError, match="never people"):
        explain(APPLICATION, run, staff)
    site = (
        person.filter(code == f"SITE//{found['hospitals'][1]['site']}")
        .select("subject_id")
        .first()
        .collect()
        .item()
    )
    assert [each["site"] for each in explain(APPLICATION, run, site)["hospitals"]] == [
        found["hospitals"][1]["site"]
    ]


def _staff(people: dict[str, int]) -> tuple[Sequences, dict[str, np.ndarray]]:
    rows = [
        (unit, person) for unit, count in people.items() for person in range(count) for _ in range(person + 1)
    ]
    steps = pl.DataFrame(
        {
            SEQUENCE: np.arange(len(rows)),
            HOUR: np.zeros(len(rows)),
            "subject_id": [hash((unit, person)) for unit, person in rows],
            "unit": [unit for unit, _ in rows],
            "group": "nurse",
            "shift": "night",
        }
    )
    said = {"fatigue": np.array([person / 10 for _, person in rows])}
    return Sequences(STAFF, steps, (), (), ()), said


@pytest.mark.parametrize("fewest", [5, 1])
def test_groups_of_fewer_than_five_are_never_shown(fewest):
    staff, said = _staff({"a": 4, "b": 5, "c": 9})
    found = staff_groups(staff, said, fewest)
    assert found["unit"].to_list() == ["b", "c"]
    assert found["people"].to_list() == [5, 9]
    # Each person once: the mean of 0.0 to 0.4, whatever the number of duties.
    assert found["value"][0] == pytest.approx(0.2)
    assert staff_groups(staff, said, 6)["unit"].to_list() == ["c"]


def test_the_documents_model_is_a_named_configuration(kinds):
    assert {"predict", "explain"} <= set(verbs_of(APPLICATION))
    config = load_config(SafetyConfig, find_config(APPLICATION, Path("hamburg-hybrid")), [])
    assert (config.model.backbone, config.model.d_model, config.model.n_layers) == ("mamba", 512, 12)
    assert config.model.backbone_settings == {"d_state": 64}
    scalings = {kind: Scaling.fit(each) for kind, each in kinds.items()}
    small = {"model.d_model": 32, "model.n_layers": 2}
    config = load_config(
        SafetyConfig,
        find_config(APPLICATION, Path("hamburg-hybrid")),
        [f"{name}={value}" for name, value in small.items()],
    )
    names = [
        name
        for name, _ in SafetyModel(scalings, config.model, learned_weights=True).backbone.named_parameters()
    ]
    assert any("layers.1" in name for name in names)
