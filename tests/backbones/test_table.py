"""The table of backbones: cheap to name, and told on its page as the code has it."""

import subprocess
import sys

import pytest

from caretrace.backbones import BACKBONES, find_backbone

from ..docs.test_docs import script

reference = script("backbone_reference")


def test_the_page_lists_what_the_code_has():
    page = reference.PAGE.read_text(encoding="utf-8")
    assert reference.render(page) == page, "run `make reference`"
    assert all(f"| `{name}` |" in page for name in BACKBONES)


def test_a_row_that_nobody_wrote_down_is_noticed(monkeypatch):
    monkeypatch.setitem(BACKBONES, "gru-twice", BACKBONES["gru"])
    page = reference.PAGE.read_text(encoding="utf-8")
    assert reference.render(page) != page


def test_naming_backbones_imports_no_torch():
    code = "import sys; from caretrace.backbones import BACKBONES; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_row_says_what_it_is(name):
    assert (find_backbone(name).__doc__ or "").strip()
