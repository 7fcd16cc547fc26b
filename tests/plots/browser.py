"""A page as a real browser shows it: Chromium without a screen or a network."""

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
# No name is resolved, so that nothing can come from elsewhere.
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

# What a probe finds out goes into the page, and so into the dump.
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
    """Path of a Chromium, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def visit(path, probe, folder, width=1280):
    """Opens a page; returns what a probe gives, and what the console complained of.

    Args:
      path: of the page.
      probe: a JavaScript expression, or a promise of one; run when the page is loaded.
      folder: for the browser's profile, and for a copy of the page with the probe.
      width: of the window, pixels.
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
    """What is wrong with the charts of a page, and all that its console says.

    Args:
      path: of the page.
      expected: panels of each chart that must be drawn, in order.
      folder: of the browser.
    """
    charts, complaints = visit(path, COUNT, folder)
    if charts is None:
        return [*complaints, "the page's scripts never came to an end"]
    if [chart["panels"] for chart in charts] != list(expected):
        complaints.append(f"panels: {[chart['panels'] for chart in charts]}, not {expected}")
    for number, chart in enumerate(charts):
        if not (chart["roots"] and chart["lines"]):
            complaints.append(f"chart {number} is not drawn: {chart}")
    return complaints


class ProbeReader(HTMLParser):
    """What the probe found, None if it did not come to it."""

    def __init__(self, text):
        super().__init__()
        self.found = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "template" and values.get("id") == "probe":
            self.found = json.loads(values["data-found"])


class PageReader(HTMLParser):
    """Tags, texts and fetched addresses of a page, without running anything of it."""

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
        """All that is written on it, with single spaces."""
        return " ".join(" ".join(self.texts).split())
