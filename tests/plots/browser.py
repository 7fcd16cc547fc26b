"""Renders a page in headless Chromium, without network access."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
# No host name is resolved, so that nothing can be fetched.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--virtual-time-budget=20000",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
TIMEOUT = 240  # Seconds; it takes 2 to 5 on an idle machine.
COMPLAINT = re.compile(r"CONSOLE.*?\]\s*(.*)")
FETCHING = ("src", "srcset", "href", "data", "action", "poster", "xlink:href")
LINKS = ("a",)

# Probes write their results into the page, which is dumped.
COUNT = """
[...document.querySelectorAll('.chart')].map((chart) => ({
  roots: chart.querySelectorAll('svg.main-svg').length,
  lines: [...chart.querySelectorAll('.scatterlayer .js-line')]
    .filter((line) => line.getAttribute('d')).length,
  panels: chart.querySelectorAll('.cartesianlayer > .subplot').length,
}))
"""
WIDTHS = "({page: document.documentElement.scrollWidth, window: window.innerWidth})"


def find_browser():
    """Path of a Chromium browser; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def visit(path, probe, folder, width=1280):
    """Opens a page; returns the value of a probe and the messages of the console.

    Args:
      path: the page.
      probe: a JavaScript expression or a promise, evaluated once the page has loaded.
      folder: for the browser's profile and a copy of the page with the probe.
      width: of the window, in pixels.
    """
    script = (
        "<script>window.addEventListener('load', async () => { const out = document.createElement"
        f"('template'); out.id = 'probe'; out.dataset.found = JSON.stringify(await ({probe})); "
        "document.body.append(out); });</script>"
    )
    probed = folder / "probed.html"
    probed.write_text(path.read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")
    command = [
        find_browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},3000", "--dump-dom", probed.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    found = ProbeReader(done.stdout).found
    return found, [match[1] for match in COMPLAINT.finditer(done.stderr)]


def problems(path, expected, folder):
    """Faults of the charts of a page, and all messages of the console.

    Args:
      path: the page.
      expected: the number of panels of each chart, in order.
      folder: for the browser.
    """
    charts, messages = visit(path, COUNT, folder)
    if charts is None:
        return [*messages, "the page's scripts did not finish"]
    if [chart["panels"] for chart in charts] != list(expected):
        messages.append(f"panels: {[chart['panels'] for chart in charts]}, not {expected}")
    for number, chart in enumerate(charts):
        if not (chart["roots"] and chart["lines"]):
            messages.append(f"chart {number} is not drawn: {chart}")
    return messages


class ProbeReader(HTMLParser):
    """The value of the probe; None if it did not run."""

    def __init__(self, text):
        super().__init__()
        self.found = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "template" and values.get("id") == "probe":
            self.found = json.loads(values["data-found"])


class PageReader(HTMLParser):
    """Tags, texts, and fetched addresses of a page, without running its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.fetched, self.scripts, self.texts = [], [], [], []
        self._inside = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in LINKS:
            self.fetched += [value for name, value in attrs if name in FETCHING]
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data):
        if not self._inside:
            self.texts.append(data)
        elif self._inside[-1] == "script":
            self.scripts.append(data)

    @property
    def text(self):
        """The whole text, with single spaces."""
        return " ".join(" ".join(self.texts).split())
