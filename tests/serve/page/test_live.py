"""`caretrace demo`, then `caretrace serve demo`: the real service, a replayed ward, a browser, and a keyboard."""

import os
import re
import subprocess
import sys
import time

import pytest

from .conftest import show, violations
from .test_page import press_until

SMALL = ("--days", "1", "--set", "monitors.people=40", "--set", "monitors.step_seconds=300")
# Nearly everything is an alarm, so that one is there when the browser looks.
EAGER = (
    *("grid.step_seconds=300", "grid.length=48", "detector.batches=20", "document.fitted=false"),
    *("policy.false_alarms_per_day=40", "policy.lasting_delay_seconds=0", "policy.join_seconds=0"),
)
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    from caretrace.cli import build_app, tour

    folder = tmp_path_factory.mktemp("live") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tour.SIZES, "vitals", SMALL)
        patch.setitem(tour.QUICK, "vitals", EAGER)
        words = ["demo", "--out", str(folder), "--app", "vitals", "--quiet"]
        assert not build_app()(words, standalone_mode=False)
    return folder


@pytest.fixture(scope="module")
def service(demo, tmp_path_factory):
    """The address of a service on the demo, and when it was started."""
    said = tmp_path_factory.mktemp("said") / "serve.log"
    command = [sys.executable, "-m", "caretrace.cli", "serve", str(demo), "--port", "0"]
    begun = time.monotonic()
    with said.open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "COLUMNS": "200"})
        try:
            while not (found := ADDRESS.search(said.read_text())):
                assert running.poll() is None, said.read_text()
                assert time.monotonic() - begun < 120, said.read_text()
                time.sleep(0.2)
            yield f"{found[0]}/", time.monotonic()
        finally:
            running.terminate()
            running.wait(20)


@pytest.mark.slow
def test_a_ward_comes_alive_within_ten_seconds_and_an_alarm_is_acknowledged_by_keyboard(look, service):
    address, up = service
    page = look(address)
    page.set_default_timeout(30_000)
    while not page.locator(
        ".grid a"
    ).count():  # the page says what is missing until the first samples are there
        assert time.monotonic() - up < 60
        page.reload()
        page.wait_for_selector("main[data-view=ward]")
    page.wait_for_selector(".live:text-is('live')")
    first = page.inner_text(".grid")
    page.wait_for_function("before => document.querySelector('.grid').innerText !== before", arg=first)
    assert time.monotonic() - up < 10
    assert "replayed at 60 times their speed" in page.inner_text(".facts")
    page.wait_for_selector(".attention a .chip.active")
    page.keyboard.press("Tab")
    press_until(page, "Tab", "Alarm")
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-view=bed]")
    page.wait_for_selector(".strip canvas")
    press_until(page, "Tab", "Acknowledge")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".alarm.acknowledged")
    show(page, "audit")
    assert re.search(r"Acknowledge alarm [0-9a-f]+", page.inner_text("main"))
    assert "✓ Whole" in page.inner_text("main")


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_real_service(look, service, theme):
    page = look(service[0], theme)
    page.wait_for_selector(".grid a", timeout=30_000)
    assert violations(page) == []
    page.locator(".grid a").first.click()
    page.wait_for_selector("main[data-view=bed]")
    assert violations(page) == []
    for view in ("cohort", "models", "audit"):
        show(page, view)
        assert violations(page) == [], view
