"""Takes the picture of the page: `python docs/web_picture.py` (extras web and dev, and a program named chromium)."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from dmt.process import settle

OUTPUT = Path(__file__).with_name("web.png")
MINUTES = 60_000.0
"""Milliseconds in one."""


def main() -> None:
    """The bundled portrait says the bundled sentence, happily; the picture is taken while it speaks."""
    settle()  # as `dmt web` does; the browser works on the same processors
    from dmt.pipeline import load
    from dmt.web import opened

    with opened(load(), port=0) as blocks, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 920})
        page.set_default_timeout(10 * MINUTES)
        page.goto(blocks.local_url)
        page.locator("#sentence").click()
        page.locator("#audio").get_by_label("Play", exact=True).wait_for()
        page.get_by_label("Emotion").click()
        page.get_by_role("option", name="happy").click()
        page.get_by_role("button", name="Make the video").click()
        page.locator("#times table").wait_for()
        page.wait_for_function("document.querySelector('#video video').readyState >= 2")
        page.evaluate("(v => { v.pause(); v.currentTime = 1.0 })(document.querySelector('#video video'))")
        page.mouse.move(600, 910)
        page.wait_for_timeout(2000)
        page.screenshot(path=OUTPUT)
        browser.close()
    with Image.open(OUTPUT) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(OUTPUT, optimize=True)


if __name__ == "__main__":
    main()
