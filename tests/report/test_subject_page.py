"""The page of one explained subject: what it shows, what it may call it, and that text stays text."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from caretrace.errors import BundleError
from caretrace.explain.certificate import Certificate, Finding
from caretrace.explain.faithfulness import gate
from caretrace.hospital.config import RULES
from caretrace.report import render_run_report
from caretrace.report.subject_page import explanation_folders, render_subject_page

from . import example_explanation as example
from . import example_run
from .pages import Page
from .test_run_page import poison

BACK = "../../report.html"
SECTIONS = ["who", "risk", "timeline", "events", "groups", "static", "pairs", "attention", "reading"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return example_run.write_run(tmp_path / "run")


def page_of(folder: Path) -> Page:
    page = Page(render_subject_page(folder))
    page.check(links=[BACK])
    return page


def certify(run: Path, **gates: float) -> None:
    found = {"removal": {name: gate(name, value) for name, value in gates.items()}}
    findings = tuple(Finding(rule, 0, 1.0, 20, found) for rule in RULES)
    (run / "bundle").mkdir(exist_ok=True)
    config = example_run.run()["config"]
    Certificate("mortality", config, {}, tuple(RULES), findings).save(run / "bundle" / "certificate.json")


def test_a_whole_page_has_every_part(run: Path) -> None:
    page = page_of(example.write_explanation(run, around=example.surroundings(looks=example.looks())))
    assert [values["id"] for tag, values in page.tags if tag == "section"] == SECTIONS
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 5
    for said in (
        "a risk of 42.7 % (35.1 % to 50.8 % among its 5 members)",
        "average subject it was judged on has 14.2 %",
        "24 h after ICU admission",
        "outcome: yes, in the record",
        "Age 71 years ICU admission Medical ICU",
        "Lactate Lab · LAB//lactate 5.6 mmol/L 4 h after admission 2024-05-01 12:00 +0.61 ± 0.10 30.0 %",
        "Coma scale Lab · LAB//gcs 7 5 h after admission",
        "Furosemide 40 mg IV Prescription · RX//furosemide 6 h before admission",
        "all of type lab 2 +0.90 22.0 %",
        "0 to 4 h after admission 2 +0.90 22.0 %",
        "everything older than 24 h 1 +0.02 41.0 %",
        "+0.61 and +0.22 −0.15 either does part of the other's work",
        "1 of 2; the others add up",
        "Of 2 pooling heads, 1 followed time, none an event type at equal times and none extreme values",
        "1 of them look at all steps almost alike",
        "Lactate −0.81 (p 0.004)",
        "model 1, layer 1 3.5 (3.0 to 4.0) 8.0 80 (80 to 80) 50 2 of 2 heads look nearer than an even look",
    ):
        assert said in page.text, said
    assert "Lactate +0.61" in page.html
    assert "NEVER//MATTERS" not in page.html


def test_credits_are_called_what_the_certificate_allows(run: Path) -> None:
    folder = example.write_explanation(run, around=example.surroundings(looks=example.looks()))
    bare = re.compile(r"(?<!not )importance", re.IGNORECASE)
    assert not bare.findall(page_of(folder).text)
    assert "(not importance: never judged on planted truth)" in page_of(folder).text
    certify(run, recovery=1.0, decoy=0.9, rule_decoy=0.5)
    assert "What moved the model: single events" in page_of(folder).text
    assert "(faithful to the model; not importance" in page_of(folder).text
    assert not bare.findall(page_of(folder).text)
    certify(run, recovery=0.6)
    assert "(not importance: failed recovery)" in page_of(folder).text
    certify(run, recovery=1.0, decoy=0.5)
    certified = page_of(folder)
    assert "Importance: single events" in certified.text
    assert "(certified on planted truth)" in certified.text
    attention = certified.text.split("What the model looked at; not importance", 1)[1]
    assert not bare.findall(attention)


def test_a_certificate_of_another_configuration_certifies_nothing(run: Path) -> None:
    folder = example.write_explanation(run)
    certify(run, recovery=1.0, decoy=0.5)
    changed = example_run.run()
    changed["config"]["backbone"]["layers"] = 9
    example_run.write_run(run, run=changed)
    assert "never judged on planted truth" in page_of(folder).text


def test_credits_of_attention_are_called_what_they_are(run: Path) -> None:
    folder = example.write_explanation(run, example.explanation(method="pooling"))
    page = page_of(folder)
    assert "What the model looked at (not importance): single events" in page.text
    assert "Credits (not importance): static features" in page.text
    assert "--method pooling" in page.text
    assert "They mark what is looked at most" in page.text
    events = page.html.split('id="events"')[1].split("</section>")[0]
    assert "raises" not in events
    assert 'class="number up"' not in page.html


def test_hostile_text_stays_text(run: Path) -> None:
    hostile = "<script>alert('x')</script>\"&"
    measurements = example.explanation().measurements.with_columns(
        (pl.col(name).fill_null("") + hostile) for name in ("code", "description", "unit", "text_value")
    )
    static = example.explanation().static.with_columns(
        (pl.col(name) + hostile) for name in ("feature", "value")
    )
    around = example.surroundings(looks=example.looks())
    evolution = poison(around.evolution, hostile)
    found = example.explanation(
        measurements=measurements, static=static, reference=hostile, limits=[hostile], heading=hostile
    )
    folder = example.write_explanation(
        run, found, example.surroundings(looks=example.looks(), evolution=evolution)
    )
    heads = folder.parent / "heads.json"
    heads.write_text(
        heads.read_text().replace('"Lactate"', '"<script>alert(1)</script>"').replace('"lab"', '"<b>"')
    )
    page = page_of(folder)
    assert "<script" not in page.html
    assert "<b>" not in page.html
    assert page.text.count("alert(") > 10


def test_a_model_without_attention_has_no_part_about_it(run: Path) -> None:
    page = page_of(example.write_explanation(run))
    assert "attention" not in [values["id"] for tag, values in page.tags if tag == "section"]
    assert "#attention" not in page.assets


def test_a_single_model_has_no_band(run: Path) -> None:
    alone = example.surroundings(members=1, low=None, high=None)
    flat = alone.trajectory.with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("low", "high"))
    text = page_of(example.write_explanation(run, around=example.surroundings(
        members=1, low=None, high=None, trajectory=flat, compared=None
    ))).text  # fmt: skip
    assert "one model: no band" in text
    assert "±" not in text
    assert "average subject" not in text


def test_without_surroundings_what_is_there_is_shown(run: Path) -> None:
    folder = example.write_explanation(run)
    (folder / "surroundings.json").unlink()
    page = page_of(folder)
    assert "Lactate" in page.text
    assert "Not computed for this explanation: run caretrace explain" in page.text
    assert "20 h before" in page.text


def test_an_empty_record_is_drawn_as_far_as_it_goes(run: Path) -> None:
    nothing = example.explanation().measurements.clear()
    around = example.surroundings(
        types=[], windows=[], types_over_time=[], interactions=[], hours_since_admission=None,
        evolution={"hours_earlier": [0.0], "codes": []}, trajectory=example.surroundings().trajectory.head(1),
    )  # fmt: skip
    page = page_of(example.write_explanation(run, example.explanation(measurements=nothing), around))
    assert "No measurement was read" in page.text
    assert "No trajectory" in page.text


def test_credits_too_small_to_explain_anything_are_called_so(run: Path) -> None:
    small = example.explanation().measurements.with_columns(pl.col("credit") / 1000)
    page = page_of(example.write_explanation(run, example.explanation(measurements=small)))
    assert "there is next to nothing to explain" in page.text


@pytest.mark.parametrize("name", ["surroundings.json", "trajectory.parquet", "explanation.json"])
def test_a_damaged_part_is_named(run: Path, name: str) -> None:
    folder = example.write_explanation(run)
    (folder / name).write_text("{")
    with pytest.raises(BundleError, match=r"is damaged|is not an explanation"):
        render_subject_page(folder)


def test_the_report_links_its_explanations_and_makes_them_again(run: Path) -> None:
    folder = example.write_explanation(run)
    (folder.parent / ".unfinished.1-a.partial").mkdir()
    assert explanation_folders(run) == [folder]
    link = f"explain/{example.NAME}/explanation.html"
    report = Page(render_run_report(run))
    report.check(links=[link])
    assert link in report.assets
    assert "Subject 7 2024-05-02 08:00 42.7 %" in report.text
    page = Page(folder / "explanation.html")
    assert BACK in page.assets


def test_a_report_elsewhere_links_back_into_the_run(run: Path, tmp_path: Path) -> None:
    example.write_explanation(run)
    link = f"../run/explain/{example.NAME}/explanation.html"
    Page(render_run_report(run, tmp_path / "pages" / "mine.html")).check(links=[link])
    assert (tmp_path / "pages" / link).is_file()


def test_a_run_without_explanations_is_reported_without_torch(run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from caretrace.report import render_run_report; "
        f"render_run_report(Path({str(run)!r})); print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False"]


def test_pins_that_would_cover_each_other_move_aside(run: Path) -> None:
    many: Any = pl.concat([example.explanation().measurements[1:2]] * 9)
    page = page_of(example.write_explanation(run, example.explanation(measurements=many)))
    drawn = [
        (float(v["cx"] or 0), float(v["cy"] or 0))
        for tag, v in page.tags
        if tag == "circle" and v["r"] == "9"
    ]
    assert len(drawn) == 9
    assert all(abs(a[0] - b[0]) > 17 or abs(a[1] - b[1]) > 17 for i, a in enumerate(drawn) for b in drawn[:i])
