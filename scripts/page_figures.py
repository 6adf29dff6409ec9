"""Take the pictures of the page that the README shows, from the service on a real demo.

    caretrace demo && caretrace serve demo &
    python scripts/page_figures.py http://127.0.0.1:8000/ docs/figures

Needs playwright, pillow and the system's Chromium. Everybody on the pictures is simulated.
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

# File → address, theme, height of the window, and what must stand on the page first.
PICTURES = {
    "page-ward": ("#/ward", "light", 860, ".grid a"),
    "page-bed": ("", "light", 960, ".strip canvas"),
    "page-board": ("#/board", "dark", 760, ".horizons"),
    "page-subject": ("", "light", 960, ".push"),
}
WIDTH = 1280


def main(url: str, out: Path) -> None:
    """Visit each view and write its picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (address, theme, height, wanted) in PICTURES.items():
            window = browser.new_context(
                color_scheme="dark" if theme == "dark" else "light",
                viewport={"width": WIDTH, "height": height},
            )
            page = window.new_page()
            page.goto(url)
            page.wait_for_selector("main[data-view=ward]", timeout=30_000)
            page.goto(f"{url}{address or found(page, name)}")
            page.wait_for_selector(wanted, timeout=60_000)
            page.wait_for_timeout(2500)
            page.screenshot(path=out / f"{name}.png")
            shrink(out / f"{name}.png")
            window.close()
        browser.close()


def shrink(path: Path) -> None:
    """256 colours are enough for a page, in a third of the bytes."""
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            path, optimize=True
        )


def found(page: Page, name: str) -> str:
    """The bed that needs somebody most, or the subject at the highest risk."""
    if name == "page-subject":
        page.goto(f"{page.url.split('#')[0]}#/subjects")
        page.wait_for_selector("table a", timeout=60_000)
        return str(page.get_attribute("table a", "href"))
    return str(page.locator(".attention a, .grid a:not(.quiet)").first.get_attribute("href"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], Path(sys.argv[2]))
