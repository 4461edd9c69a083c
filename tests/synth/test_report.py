"""The HTML report: one file, nothing fetched, everything escaped, right in a real browser."""

import functools
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_example import MODEL, example_summary
from test_boxes import chain

from synth.report.figures import foresight
from synth.report.report import MOST_BYTES, render, write_report
from synth.report.summary import Candidate, DataSource, Making, RunSummary

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Checker(HTMLParser):
    """Every tag that is opened is closed, in order; what would fetch something is collected."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for key, value in attrs if key in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert checker.fetched == ["data:,"]  # the icon, so that none is asked for
    assert "http" not in re.sub(r'http-equiv|http://www\.w3\.org/2000/svg', "", text)
    return "".join(checker.text)


@functools.cache
def networks():
    small = {f"ferminet-{letter}": chain(width, separable=True).to_json() for letter, width in zip("abcd", (9, 8, 6, 5),
                                                                                                  strict=True)}
    return {"prototype": chain().to_json(), **small}


def test_the_whole_run_is_in_it():
    text = checked(render(example_summary(networks())))
    for words in ("resnet8 on digits, for tx2:maxn", "FermiNet-B: 97.8 % test accuracy, 9.80 k parameters",
                  "7.96× fewer parameters", "2 of 4 FermiNets satisfy 1r", "edgesynth synth --target tx2", "CC BY 4.0",
                  "ab" * 32, "torch 2.13.0", "1:02", "FermiNet-D beside the prototype", "3×3 → depthwise 3×3 + 1×1",
                  "64 candidates, each foreseen before", "edgesynth generate runs/x --seeds 0:10"):
        assert words in text
    assert text.index("misses accuracy") < text.index("FermiNet-B: 97.8 %")  # warnings first


def test_every_number_shows_where_it_comes_from():
    text = render(example_summary())
    assert f'<span title="predicted: {MODEL} [1.03 ms, 1.39 ms]">1.21 ms' in text
    rows = re.findall(r"<tr><td><strong>.*?</tr>", text, re.DOTALL)
    assert len(rows) == 5
    for row in rows:
        numbers = len(re.findall(r"<span title=", row))
        small = len(re.findall(r"<small>(?:raw|validation|memory|[\d.]+ (?:kB|img/J))", row))
        assert len(re.findall(r'class="mark (?:computed|predicted|measured)"', row)) == numbers + small


def test_nothing_that_is_said_becomes_markup():
    wild = "<script>alert(1)</script>&\"'"
    summary = example_summary({"ferminet-a": chain().to_json()})
    row = replace(summary.networks[1], name=wild, note=wild, insights={"stem": wild})
    making = Making(wild, {wild: wild}, 0, DataSource(wild, wild, wild, {wild: 1}, {wild: wild}), wild, wild, wild,
                    {wild: 1.0}, {wild: wild})
    text = render(replace(summary, prototype=wild, target=wild, networks=(summary.networks[0], row), making=making,
                          warnings=(wild,), next_steps={wild: wild}))
    checked(text)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1


def test_a_run_that_has_nothing_yet():
    making = Making("edgesynth synth", {}, 0, DataSource("digits"))
    text = checked(render(RunSummary("resnet8", "", (), (), making)))
    assert "The run has made no FermiNet yet." in text


@pytest.mark.parametrize("part", ["cycles", "candidates", "requirements", "warnings"])
def test_a_run_without_one_part(part):
    checked(render(replace(example_summary(), **{part: ()})))


def test_a_big_run_stays_under_two_megabytes():
    summary = example_summary(networks(), cycles=500)
    assert len(render(summary).encode()) < MOST_BYTES


def test_drawings_that_do_not_fit_are_left_out(monkeypatch):
    from synth.report import report

    monkeypatch.setattr(report, "MOST_BYTES", 90_000)
    text = report.render(example_summary(networks()))
    assert len(text.encode()) < 90_000 and "FermiNet-A beside the prototype" in text
    assert "FermiNet-D beside the prototype" not in text


def test_the_same_summary_gives_the_same_bytes(tmp_path):
    summary = example_summary(networks())
    assert write_report(summary, tmp_path / "report.html") == tmp_path / "report.html"
    summary.save(tmp_path / "summary.json")
    assert render(RunSummary.load(tmp_path / "summary.json")) == (tmp_path / "report.html").read_text()


def test_foresight_counts_what_lay_in_its_interval():
    seen = [Candidate(0, 1, 1, accuracy, True, foreseen, foreseen - 0.02, foreseen + 0.02)
            for accuracy, foreseen in ((0.90, 0.91), (0.92, 0.915), (0.94, 0.98))]
    found = foresight([*seen, Candidate(0, 1, 1, 0.5, True)])
    assert (found.count, found.covered) == (3, 2)
    assert found.error == pytest.approx((0.01 + 0.005 + 0.04) / 3)
    assert found.rank == pytest.approx(1.0)
    assert foresight([]) is None


# --- in a browser ----------------------------------------------------------------------------------------------------

PROBE = """
<script>
const head = [...document.querySelectorAll("th button")].find(b => b.textContent === "params");
const column = () => [...head.closest("table").tBodies[0].rows].map(row => row.children[0].textContent.slice(0, 10));
head.click(); const up = column(); head.click(); const down = column();
const wide = [...document.querySelectorAll("svg.chart text")].filter(text => {
  const own = text.getBoundingClientRect(), frame = text.closest("svg").getBoundingClientRect();
  return own.left < frame.left - 1 || own.right > frame.right + 1; }).map(text => text.textContent);
document.body.textContent = JSON.stringify({up, down, wide,
  scroll: document.documentElement.scrollWidth > innerWidth,
  paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
  fetched: performance.getEntriesByType("resource").map(entry => entry.name)});
</script>
"""


def _without(reason):
    """Skip, or fail where the browser must be there (.ci/run installs it)."""
    if os.environ.get("EDGESYNTH_BROWSER_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def browse(tmp_path, text, *, dark=False, width=1240):
    """What the page says at last, and what it wrote to the console, in headless Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        _without("needs a browser: apt-get install chromium")
    page = tmp_path / "page.html"
    page.write_text(text)
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
               "--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}",
               f"--window-size={width},1200", "--virtual-time-budget=2000"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    if done.returncode:
        _without(f"the browser does not run here: {done.stderr[-300:]}")
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_console_errors_would_be_seen(tmp_path):
    _, console = browse(tmp_path, "<!doctype html><script>nothing.here()</script>")
    assert len(console) == 1 and "nothing is not defined" in console[0]


@pytest.mark.parametrize("dark", [False, True])
def test_in_a_browser(tmp_path, dark):
    text = render(example_summary(networks())).replace("</body>", PROBE + "</body>")
    dom, console = browse(tmp_path, text, dark=dark)
    assert console == []
    found = json.loads(re.search(r"<body>(.*)</body>", dom, re.DOTALL)[1])
    assert found["up"] == ["FermiNet-D", "FermiNet-C", "FermiNet-B", "FermiNet-A", "prototype"]
    assert found["down"] == found["up"][::-1]
    assert found["wide"] == [] and not found["scroll"] and found["fetched"] == []
    lightness = sum(map(int, re.findall(r"\d+", found["paper"])[:3]))
    assert lightness < 150 if dark else lightness > 700


def test_on_a_small_screen_only_tables_scroll(tmp_path):
    text = render(example_summary(networks())).replace("</body>", PROBE + "</body>")
    dom, console = browse(tmp_path, text, width=500)
    assert console == [] and '"scroll":false' in dom
