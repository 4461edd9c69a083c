"""What every report is held to: sound HTML that fetches nothing, right in a real browser, light, dark, wide and small.

The browser is a headless Chromium of the system; .ci/run installs it, and without it the tests skip and say so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

VOID = {"meta", "link", "br", "input", "img", "hr"}
# A page that probes itself: `extra` is an object literal of what a test wants to know besides.
PROBE = """
<script>
for (const part of document.querySelectorAll("details")) part.open = true;
const outside = [...document.querySelectorAll("svg.chart text")].filter((text) => {
  const own = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  return own.left < frame.left - 1 || own.right > frame.right + 1 || own.bottom > frame.bottom + 1; });
const nameless = [...document.querySelectorAll("svg[role=img]")].filter((svg) => !svg.getAttribute("aria-label"));
const extra = %s;
document.body.textContent = JSON.stringify({...extra, outside: outside.map((text) => text.textContent),
  nameless: nameless.length,
  scroll: document.documentElement.scrollWidth > innerWidth, paper: getComputedStyle(document.body).backgroundColor,
  fetched: performance.getEntriesByType("resource").map((entry) => entry.name)});
</script>
"""
# The first column of the table that holds a title, after one click on that title and after another.
SORTED = """(() => {
  const head = [...document.querySelectorAll("th button")].find((button) => button.textContent === %s);
  const column = () => [...head.closest("table").tBodies[0].rows].map((row) => row.children[0].firstChild.textContent);
  head.click(); const up = column(); head.click(); const down = column();
  return {up, down}; })()"""


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order; what would fetch something is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str | None] = []
        self.text: list[str] = []
        self.captions = 0

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for key, value in attrs if key in ("src", "href", "action", "data", "srcset")]
        self.captions += {"caption": 1, "table": -1}.get(tag, 0)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text: str) -> str:
    """The words of a page that is sound, gives every table a caption and asks no network for anything."""
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.fetched == ["data:,"]  # the icon, so that none is asked for
    assert "http" not in re.sub(r'http-equiv|http://www\.w3\.org/2000/svg', "", text)
    assert checker.captions == 0
    return "".join(checker.text)


@dataclass(frozen=True)
class Seen:
    """What the page says at last, and what it wrote to the console."""

    dom: str
    console: list[str]

    @property
    def found(self) -> dict[str, Any]:
        """What PROBE found."""
        body = re.search(r"<body>(.*)</body>", self.dom, re.DOTALL)
        assert body is not None, self.dom[-500:]
        return json.loads(body[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def without(reason: str) -> None:
    """Skip, or fail where the browser must be there."""
    if os.environ.get("EDGESYNTH_BROWSER_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def browse(folder: Path, text: str, *, dark: bool = False, width: int = 1240) -> Seen:
    """The page in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        without("needs a browser: apt-get install chromium")
    page = folder / "page.html"
    page.write_text(text)
    done = subprocess.run([
        str(chromium), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
        "--enable-logging=stderr", "--v=0", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1200",
        "--virtual-time-budget=2000", f"--blink-settings=preferredColorScheme={0 if dark else 1}", page.as_uri()],
        capture_output=True, text=True, timeout=120)
    if done.returncode:
        without(f"the browser does not run here: {done.stderr[-300:]}")
    return Seen(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def probe(folder: Path, text: str, extra: str = "{}", **how: Any) -> dict[str, Any]:
    """What a page tells of itself in the browser, after all that must hold of any report has been asserted."""
    seen = browse(folder, text.replace("</body>", PROBE % extra + "</body>"), **how)
    assert seen.console == []
    found = seen.found
    assert (found["outside"], found["nameless"], found["fetched"]) == ([], 0, [])
    assert not found["scroll"], "only tables and figures scroll"
    lightness = sum(map(int, re.findall(r"\d+", found["paper"])[:3]))
    assert lightness < 150 if how.get("dark") else lightness > 700
    return found
