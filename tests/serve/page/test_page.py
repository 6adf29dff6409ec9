"""The page in a browser: by keyboard alone, for everybody's eyes, and honest about what is old."""

import re
import threading

import pytest

from .conftest import show, violations

VIEWS = {
    "ward": "#/ward",
    "bed": "#/bed/1003",
    "board": "#/board",
    "subjects": "#/subjects",
    "subject": "#/subject/20000",
    "cohort": "#/cohort",
    "models": "#/models/vitals",
    "audit": "#/audit",
}


def press_until(page, key, wanted, most=60):
    """Press a key until the focused element's text holds `wanted`, as somebody without a mouse does."""
    for _ in range(most):
        page.keyboard.press(key)
        if wanted in focused(page):
            return
    raise AssertionError(f"{key} never reached {wanted!r}; the focus is on {focused(page)!r}")


def focused(page):
    return page.evaluate("document.activeElement.innerText || document.activeElement.id || ''")


def test_from_triage_to_acknowledged_by_keyboard_alone(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".attention a")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    press_until(page, "Tab", "A-04")
    page.keyboard.press("ArrowDown")
    assert "A-12" in focused(page)
    page.keyboard.press("ArrowUp")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-view=bed]")
    press_until(page, "Tab", "Acknowledge")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert focused(page) == "Acknowledge", "closing a dialog must give the focus back"
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".alarm.acknowledged")
    assert stub.posted == [("/alarms/503/acknowledge", {"why": "Seen, I am with the patient"})]
    assert "Acknowledged" in page.inner_text(".alarm.acknowledged")


def test_arrows_walk_through_the_beds_as_they_lie(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".grid a")
    assert page.locator(".grid a").count() == 50
    page.locator(".grid a").first.focus()
    for key, there in (("ArrowRight", "A-02"), ("End", "A-50"), ("Home", "A-01")):
        page.keyboard.press(key)
        assert there in focused(page)
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.getBoundingClientRect().left")
    assert below == page.evaluate("document.querySelector('.grid a').getBoundingClientRect().left")
    assert page.locator(".grid a[tabindex='0']").count() == 1, "the grid is one stop for Tab"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_any_view(look, stub, theme):
    page = look(stub.url, theme)
    for view, address in VIEWS.items():
        show(page, view, address)
        page.wait_for_timeout(150)
        assert violations(page) == [], f"{view}, {theme}"
        assert "Research use only, never a bedside device" in page.inner_text(".notice")
        assert page.locator("h1").count() == 1
    show(page, "bed", VIEWS["bed"])
    page.get_by_role("button", name="Acknowledge").first.click()
    assert violations(page) == [], f"dialog, {theme}"


def test_axe_is_able_to_find_something(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".grid a")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    assert any(line.startswith("button-name") for line in violations(page))


@pytest.mark.slow
@pytest.mark.parametrize("width", [640, 320])
def test_nothing_is_cut_off_at_200_and_400_percent(look, stub, width):
    page = look(stub.url, width=width, height=450)
    for view, address in VIEWS.items():
        show(page, view, address)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_every_state_is_a_word_and_a_sign(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".grid a")
    told = {text.strip() for text in page.locator(".grid .chip").all_inner_texts()}
    signs = {text.split()[0] for text in told}
    assert len(told) == len(signs) == 7, "colour is never the only difference"


def test_a_service_that_fell_silent_is_unmistakable(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".live:text-is('live')")
    assert page.locator(".lost").is_hidden()
    stub.silent = True
    page.evaluate(
        "() => { const late = performance.now.bind(performance); performance.now = () => late() + 60000; }"
    )
    page.wait_for_selector(".lost:not([hidden])")
    assert "do not act on it" in page.inner_text(".lost")
    assert page.evaluate("document.documentElement.classList.contains('old')")
    show(page, "bed", VIEWS["bed"])
    assert "line-through" in page.evaluate("getComputedStyle(document.querySelector('.now')).textDecoration")
    assert violations(page) == []


def test_a_risk_says_how_old_it_is_and_is_grey_when_it_is_too_old(look, stub):
    page = look(stub.url)
    page.wait_for_selector(".grid a")
    tile = page.locator(".grid a").nth(1)
    assert re.search(r"Risk \d+ % \(\d+–\d+\)\s+of 60 min ago", tile.inner_text())
    old = page.locator(".grid a").nth(12)
    assert re.search(r"▲ Old risk \d+ % \(\d+–\d+\)\s+of 8 h ago", old.inner_text())
    grey = "element => getComputedStyle(element).backgroundColor"
    bars = [each.locator(".interval b").evaluate(grey) for each in (tile, old)]
    assert bars[0] != bars[1], "not only in words"
    assert "Pairing of the test." in page.inner_text(".notice")
    page.goto(f"{stub.url}#/bed/1012")
    page.wait_for_selector("main[data-view=bed]")
    told = page.inner_text(".bed-risk")
    assert "▲ Old risk" in told
    assert "predicted for" in told
    assert "Pairing of the test." in told
    assert violations(page) == []


def test_a_risk_grows_old_while_somebody_looks(look, stub):
    page = look(f"{stub.url}#/bed/1001")
    page.wait_for_selector("main[data-view=bed]")
    assert page.inner_text(".told-risk").startswith(
        "Risk of death in the stay 7.4 % (5.2–10.0 %), predicted for 2026-03-02 13:00 UTC"
    )
    stub.silent = True  # each event would set the ward's clock right
    page.wait_for_timeout(800)
    page.evaluate(
        "() => { const late = performance.now.bind(performance); performance.now = () => late() + 6 * 3600e3; }"
    )
    page.wait_for_selector(".told-risk.aged")
    assert "After 6 h a risk counts as old." in page.inner_text(".bed-risk")


@pytest.mark.parametrize(("certified", "said"), [(True, "✓ Certified."), (False, "▲ Not importance.")])
def test_attributions_stand_under_what_the_certificate_says(look, stub, monkeypatch, certified, said):
    from . import canned

    whole = canned.timeline()
    monkeypatch.setattr(canned, "timeline", lambda: whole | {"certified": certified})
    page = look(f"{stub.url}#/subject/20000")
    page.wait_for_selector("main[data-view=subject]")
    assert page.inner_text(".box").startswith(said)
    assert "It was judged on 68 records." in page.inner_text(".box")


def test_the_board_says_that_it_is_being_computed(look, stub, monkeypatch):
    from . import canned

    whole, wait = canned.board(), threading.Event()
    monkeypatch.setattr(canned, "board", lambda: wait.wait(10) and whole)
    page = look(f"{stub.url}#/board")
    page.wait_for_selector("main [role=status]")
    assert "Computing the forecasts" in page.inner_text("main")
    assert violations(page) == []
    wait.set()
    page.wait_for_selector(".horizons")
    assert page.locator("main [role=status]").count() == 0


def test_a_viewer_is_offered_only_what_a_viewer_may(look, stub):
    stub.role = "viewer"
    page = look(f"{stub.url}#/bed/1003")
    page.wait_for_selector("main[data-view=bed]")
    assert page.get_by_role("button", name="Acknowledge").is_disabled()
    assert page.locator("nav a").all_inner_texts() == [
        "Ward",
        "Emergency board",
        "Synthetic cohort",
        "Models",
    ]


def test_a_token_lets_in_and_signing_out_shows_nothing_any_more(browser, stub):
    stub.token = "secret"
    page = browser.new_page()  # the browser itself complains of every 401
    page.goto(stub.url)
    page.wait_for_selector("#token")
    assert focused(page) == "token"
    assert violations(page) == []
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=this token is not known")
    page.fill("#token", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector(".grid a")
    assert page.inner_text("#who") == "nurse, admin"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("#token")
    assert page.locator(".grid a").count() == 0
    page.close()


def test_a_theme_that_was_chosen_is_kept(look, stub):
    page = look(stub.url)
    button = page.get_by_role("button", name="Theme")
    for expected in ("light", "dark"):
        button.click()
        assert page.evaluate("document.documentElement.dataset.theme") == expected
    page.reload()
    page.wait_for_selector(".grid a")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 19, 24)"


def test_what_the_service_says_is_text_never_markup(look, stub, monkeypatch):
    from . import canned

    monkeypatch.setitem(canned.WORDS, "sudden", "<img src=x onerror=alert(1)>")
    page = look(stub.url)
    page.wait_for_selector(".attention a")
    assert "<img src=x" in page.inner_text(".attention")
    assert page.locator(".attention img").count() == 0


def test_an_alarm_says_how_it_arose_and_whether_it_comes_out_again(look, stub):
    page = look(f"{stub.url}#/bed/1003")
    page.wait_for_selector("main[data-view=bed]")
    page.get_by_text("How it arose").click()
    page.wait_for_selector(".history li")
    assert "Computed again from 2 steps with vitals@1: the same alarm" in page.inner_text(".alarm")
    page.get_by_text("The 2 steps it rests on").click()
    assert '"hr":118' in page.inner_text(".alarm")
    assert violations(page) == []


def test_new_people_are_drawn_and_downloaded(look, stub):
    page = look(f"{stub.url}#/cohort")
    page.wait_for_selector("#n")
    page.fill("#n", "25")
    page.select_option("#format", "fhir")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector(".jobs a")
    assert stub.posted == [("/generate", {"n": 25, "format": "fhir", "seed": 0})]
    assert page.locator(".jobs a").get_attribute("href") == "jobs/j1/result"


def test_paper_says_what_the_screen_says_and_offers_nothing_to_press(look, stub):
    page = look(f"{stub.url}#/bed/1003", "dark")
    page.wait_for_selector("main[data-view=bed]")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".notice").is_visible()
    assert page.get_by_role("button", name="Acknowledge").count() == 0
    assert "Sudden change" in page.inner_text(".alarms")
