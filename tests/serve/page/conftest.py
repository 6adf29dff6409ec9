"""A browser that the system has, and the stub it looks at; without a browser these tests are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .stub import Stub, started

AXE = Path(__file__).parent / "axe" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(
    scope="module"
)  # not longer: while it is open no other test of this process can run an event loop
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install caretrace[test]")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine; install the system's package chromium to run this test")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    service = started()
    yield service
    service.shutdown()
    service.server_close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Open a page in a window of its own; whatever the browser complains of fails the test."""
    windows, complaints = [], []

    def open_window(url: str, theme: str = "light", width: int = 1280, height: int = 900, **more: Any) -> Any:
        window = browser.new_context(
            color_scheme=theme, viewport={"width": width, "height": height}, reduced_motion="reduce", **more
        )
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(url)
        return page

    yield open_window
    for window in windows:
        window.close()
    assert complaints == []


def show(page: Any, view: str, address: str | None = None) -> None:
    """Go to a view and wait until it stands."""
    page.evaluate("address => { location.hash = address; }", address or f"#/{view}")
    page.wait_for_selector(f"main[data-view={view}]")


def violations(page: Any) -> list[str]:
    """What axe-core finds against WCAG A and AA, one line each."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(
            AXE.read_text(encoding="utf-8")
        )  # not a script element: the page's policy forbids those
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']})",
        RULES,
    )
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:200]}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]
