"""Reports in a real browser."""

from __future__ import annotations

import shutil
import time

import pytest

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(sync_playwright is None, reason="the package playwright is not installed"),
]
SIZE = {"width": 1440, "height": 900}


def only(report):
    (found,) = report.content["reports"]
    return found


class Shown:
    """A report in the browser, and everything that went wrong there."""

    def __init__(self, browser, path, scheme="light", size=SIZE):
        self.context = browser.new_context(color_scheme=scheme, viewport=size)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = path.as_uri()
        self.page.goto(self.url)
        self.wait("complete")

    def _note(self, message):
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:  # that is about tests
            self.faults.append(message.text)

    def wait(self, name):
        for _ in range(600):
            if self.get(name):
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} never came: {self.faults}")

    def get(self, expression):
        return self.page.evaluate(f"() => reportPage.{expression}")

    def pixels(self, selector="#graph"):
        """The different colours of a canvas, and how many pixels each has."""
        script = """(selector) => {
            const canvas = document.querySelector(selector), counts = {};
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            for (let k = 0; k < data.length; k += 4) {
                const key = `${data[k]},${data[k + 1]},${data[k + 2]}`;
                counts[key] = (counts[key] || 0) + 1;
            }
            return counts;
        }"""
        return self.page.evaluate(script, selector)

    def painted(self, action):
        """Does something, and waits until the graph has been drawn again."""
        action()
        self.page.wait_for_timeout(120)

    def close(self):
        self.context.close()
        assert self.faults == []
        assert self.requests == [self.url]
