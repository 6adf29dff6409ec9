import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caretrace.report.svg import Axis, Entry, Plot, nice_ticks
from caretrace.report.wording import compact, duration, share


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert len(ticks) <= 7
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert list(ticks) == sorted(set(ticks))


def test_positions_follow_the_axes() -> None:
    plot = Plot("t", "d", Axis("x", 0, 10), Axis("y", 0, 1))
    assert plot.px(0) == plot.left
    assert plot.px(10) == plot.width - plot.right
    assert plot.py(1) == plot.top
    assert plot.py(0) == plot.height - plot.bottom


def test_the_key_goes_where_no_line_is() -> None:
    plot = Plot("t", "d", Axis("x"), Axis("y"))
    plot.line([0.0, 0.0, 1.0], [0.0, 1.0, 1.0], "s0")  # left and top are taken
    plot.line([0.0, 0.4], [0.0, 0.0], "s1")
    plot.key([Entry("one", 0)])
    drawn = ET.fromstring(plot.svg())
    word = next(text for text in drawn.iter("text") if text.text == "one")
    assert float(word.attrib["x"]) > plot.width / 2
    assert float(word.attrib["y"]) > plot.height / 2


def test_the_drawing_is_well_formed_and_named() -> None:
    plot = Plot("a <b>", 'says "&"', Axis("x"), Axis("share", percent=True))
    plot.band([0, 1], [0, 0.5], [0.5, 1], "s0")
    plot.dot(0.5, 0.5, "s0")
    plot.end_labels([(0.5, "</svg>", "s0"), (0.51, "next", "s1")])
    drawn = ET.fromstring(plot.svg())
    assert drawn.attrib["role"] == "img"
    assert next(drawn.iter("title")).text == "a <b>"
    assert next(drawn.iter("desc")).text == 'says "&"'
    names = [text for text in drawn.iter("text") if text.attrib["class"].startswith("name")]
    assert abs(float(names[0].attrib["y"]) - float(names[1].attrib["y"])) >= 12


def test_tick_texts_have_the_same_decimals() -> None:
    assert [text for _, text in Axis("x", 0.8, 0.9).marks()] == [
        "0.80",
        "0.82",
        "0.84",
        "0.86",
        "0.88",
        "0.90",
    ]
    assert [text for _, text in Axis("x", percent=True).marks()][:2] == ["0 %", "20 %"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (37.04, "37.04"),
        (-2.5, "−2.5"),
        (1234.0, "1,234"),
        (250_000, "250,000"),
        (1e-5, "1e−05"),
        (None, "–"),
    ],
)
def test_compact(value: float | None, text: str) -> None:
    assert compact(value) == text


def test_small_shares_are_not_called_none() -> None:
    assert share(1, 100_000) == "<0.1 %"
    assert share(0, 10) == "0.0 %"
    assert share(1, 0) == "–"


def test_durations() -> None:
    assert [duration(s) for s in (4.25, 42, 200, 7500)] == ["4.2 s", "42 s", "3 min 20 s", "2 h 5 min"]
