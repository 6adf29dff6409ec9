"""Contrast of every text and series colour, light, dark and printed (WCAG 2.2, 1.4.3 and 1.4.11)."""

import re
from importlib.resources import files

import pytest

STYLE = files("caretrace.report").joinpath("templates/style.css").read_text(encoding="utf-8")
LIGHT, DARK, PRINT = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))
    for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
PAIRS = [
    *((text, ground) for text in ("ink", "muted", "accent") for ground in ("page", "surface", "sunken")),
    *((tone, ground) for tone in ("good", "warn", "bad") for ground in ("surface", f"{tone}-bg")),
    *((text, f"{tone}-bg") for text in ("ink", "muted") for tone in ("good", "warn", "bad")),
    *((f"s{number}", "surface") for number in range(6)),  # also the colour of names beside lines
]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("text", "ground"), PAIRS)
@pytest.mark.parametrize("theme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_contrast_is_aa(theme: dict[str, str], text: str, ground: str) -> None:
    dim, bright = sorted([luminance(theme[text]), luminance(theme[ground])])
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_every_colour_is_a_variable() -> None:
    rules = re.sub(r":root \{.*?\}", "", STYLE, flags=re.DOTALL)
    assert not re.findall(r"#[0-9a-f]{3,6}\b", rules)
