"""A network as SVG, the prototype beside it: bars as wide as the channels, what changed in colour and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from synth.networks import boxes as parts
from synth.networks.boxes import ADDED, CHANGED, REMOVED, Box, Row, lanes, pair_up
from synth.networks.network import Network

LINE, BAR, TOP = 20, 13, 34  # height of a line, of a bar; where the first line begins
NAMES, HALF, LABEL, GAP, WORDS = 166, 50, 172, 8, 300  # widths: names, half of the widest bar, labels, gaps, changes
LANE, MOST_LANES = 6, 9
CHARACTERS = 48  # of a line of changes

STYLE = """
.net{--net-dense:#3f72b5;--net-pointwise:#2a9187;--net-depthwise:#c07a1a;--net-linear:#8457b5;--net-join:#8a8f98;
--net-other:#b3b8c0;--net-added:#23863a;--net-removed:#c23b3b;--net-changed:#b26a00;
font:12px system-ui,-apple-system,"Segoe UI",sans-serif;fill:currentColor}
@media (prefers-color-scheme:dark){.net{--net-dense:#6d9fe0;--net-pointwise:#4fc0b4;--net-depthwise:#e0a050;
--net-linear:#b48ce0;--net-join:#8a8f98;--net-other:#6a707a;--net-added:#5cc274;--net-removed:#f07b7b;
--net-changed:#e8ac52}}
.net .dense{fill:var(--net-dense)}.net .pointwise{fill:var(--net-pointwise)}.net .depthwise{fill:var(--net-depthwise)}
.net .linear{fill:var(--net-linear)}.net .join{fill:var(--net-join)}.net .other{fill:var(--net-other)}
.net .edge{fill:none;stroke:currentColor;stroke-opacity:.35}.net .tip{fill:currentColor;fill-opacity:.5}
.net .ghost{fill:currentColor;fill-opacity:.07;stroke:currentColor;stroke-opacity:.4;stroke-dasharray:2 2}
.net .dim{fill-opacity:.62}.net .head{font-weight:600}.net .band{fill:currentColor;fill-opacity:.045}
.net .added{fill:var(--net-added)}.net .removed{fill:var(--net-removed)}.net .changed{fill:var(--net-changed)}
.net .gone{fill-opacity:.3}.net .follows{fill-opacity:.62}
"""


@dataclass(frozen=True)
class _Line:
    """One line of the drawing: a row's i-th box on either side, and its words."""

    row: Row
    index: int
    y: float
    before: Box | None
    after: Box | None
    words: tuple[str, str]  # class, text


def draw(
    network: Network,
    before: Network | None = None,
    *,
    titles: tuple[str, str] = ("prototype", ""),
    insights: Mapping[str, str] | None = None,
) -> str:
    """The network as one SVG element; with `before`, that network to its left, aligned by vertex names.

    titles: of `before` and of the network. insights: {vertex: what is to say about it}, shown with what changed.
    Convolutions, norms and activations that follow each other are one box, whose bar is as wide as its channels; where
    channels were taken away, a dashed outline shows the width before. Lines at the left are edges that skip boxes.
    Colours follow `prefers-color-scheme` and the text colour of the page; every text is escaped.
    """
    rows = pair_up(before, network)
    lines = _lines(rows, insights or {}, before is not None)
    widest = _widest(lines)
    left = float(NAMES)
    columns = []
    if before is not None:
        columns.append(_Column([(line.before, line.y) for line in lines], left, widest))
        left = columns[0].right + GAP
    columns.append(_Column([(line.after, line.y) for line in lines], left, widest))
    width = columns[-1].right + (GAP + WORDS if before is not None or insights else 0)
    foot = lines[-1].y + LINE
    body = [*_bands(lines, width), *_names(lines)]
    for column in columns:
        body += column.edges()
    for line in lines:
        body += _boxes(line, columns, before is not None)
        kind, text = line.words
        if text:
            body.append(_text(columns[-1].right + GAP, line.y, text, kind))
    names = (titles[0], titles[1] or network.name) if before is not None else (titles[1] or network.name,)
    for column, name in zip(columns, names, strict=True):
        body.append(_text(column.spine, 16, name, "head", ' text-anchor="middle"'))
    legend, end = _legend(lines, foot)
    body += legend
    width = max(width, end)
    label = escape(" and ".join(names), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="net" role="img" aria-label="{label}" width="{width:g}" '
        f'height="{foot + 24:g}" viewBox="0 0 {width:g} {foot + 24:g}"><style>{STYLE}</style>{"".join(body)}</svg>'
    )


def _widest(lines: Sequence[_Line]) -> int:
    """The most channels of any map; a flattened map is no width that anybody chose, and may be drawn too narrow."""
    found = [box for line in lines for box in (line.before, line.after) if box is not None]
    return max(box.width for box in ([box for box in found if len(box.shape) == 3] or found))


def _lines(rows: Sequence[Row], insights: Mapping[str, str], compared: bool) -> list[_Line]:
    lines, y = [], float(TOP)
    for row in rows:
        # of a box the last vertex speaks: the activation where there is one, else the norm
        seen = [next((insights[name] for name in reversed(box.vertices) if name in insights), "")
                for box in (*row.after, *row.before)]
        said = [(row.change, text) for what in row.what for text in textwrap.wrap(what, CHARACTERS)] if compared else []
        said += [("dim", text) for what in dict.fromkeys(seen) for text in textwrap.wrap(what, CHARACTERS)]
        # the last box of the row is the one that keeps the name: it stands beside the prototype's
        for i in range(max(len(row.before), len(row.after), len(said), 1)):
            lines.append(_Line(row, i, y, row.before[i] if i < len(row.before) else None,
                               row.after[i] if i < len(row.after) else None, said[i] if i < len(said) else ("", "")))
            y += LINE
    return lines


class _Column:
    """One network of the drawing: lanes for edges that skip, then bars around a spine, then labels."""

    def __init__(self, placed: Sequence[tuple[Box | None, float]], left: float, widest: int):
        self.boxes = [(box, y) for box, y in placed if box is not None]
        self.widest = widest
        self.y_of = {box.name: y for box, y in self.boxes}
        order = {box.name: i for i, (box, _) in enumerate(self.boxes)}
        self.skips: dict[str, list[str]] = {}
        self.steps: list[tuple[str, str]] = []
        for box, _ in self.boxes:
            for source in box.reads:
                if order[box.name] - order[source] == 1:
                    self.steps.append((source, box.name))
                else:
                    self.skips.setdefault(source, []).append(box.name)
        spans = [(order[source], max(order[reader] for reader in readers)) for source, readers in self.skips.items()]
        self.lane_of = dict(zip(self.skips, lanes(spans), strict=True))
        count = max(self.lane_of.values(), default=-1) + 1
        self.pitch = LANE * min(1.0, MOST_LANES / count) if count else 0.0
        self.inner = left + count * self.pitch + 4  # where the widest bar may begin
        self.spine = self.inner + HALF
        self.label = self.spine + HALF + 8
        self.right = self.label + LABEL

    def half(self, box: Box) -> float:
        """Half of a bar's width: proportional to the channels, never invisible."""
        return min(HALF, max(2.0, HALF * box.width / self.widest))

    def edges(self) -> list[str]:
        found = [
            f'<path class="edge" d="M{self.spine:g} {self.y_of[a] + BAR / 2:g}V{self.y_of[b] - BAR / 2:g}"/>'
            for a, b in self.steps
        ]
        widths = {box.name: self.half(box) for box, _ in self.boxes}
        for source, readers in self.skips.items():
            x = self.inner - 4 - self.lane_of[source] * self.pitch
            top = self.y_of[source] + 3
            trunk = f"M{self.spine - widths[source]:g} {top:g}H{x + 3:g}Q{x:g} {top:g} {x:g} {top + 3:g}"
            for reader in sorted(readers, key=self.y_of.__getitem__, reverse=True):  # the last one gets the trunk
                y, end = self.y_of[reader] - 3, self.spine - widths[reader] - 4
                start = f"{trunk}V{y - 3:g}" if trunk else f"M{x:g} {y - 3:g}"
                found.append(f'<path class="edge" d="{start}Q{x:g} {y:g} {x + 3:g} {y:g}H{end:g}"/>'
                             f'<path class="tip" d="M{end + 4:g} {y:g}l-5 -2.5v5z"/>')
                trunk = ""
        return found


def _boxes(line: _Line, columns: Sequence[_Column], compared: bool) -> list[str]:
    body = []
    pairs = zip(columns, (line.before, line.after) if compared else (line.after,), strict=True)
    last = line.row.after[-1] if line.row.after else None
    for column, box in pairs:
        if box is None:
            continue
        outline = ""
        old = line.row.before[0] if line.row.before else None
        if compared and box is last and column is columns[-1] and old is not None and old.width > box.width:
            outline = _bar(column, old, line.y, "ghost")
        faded = " gone" if line.row.change == REMOVED else ""
        channels = "×".join(map(str, box.shape))
        label = f"{box.words} · {channels}"
        details = f"{' + '.join(box.vertices)}: {box.words}{' ' + box.tail if box.tail else ''}, {channels}, " \
                  f"{box.params:,} parameters, {box.macs:,} MACs"
        body.append(f"<g><title>{escape(details)}</title>{outline}{_bar(column, box, line.y, box.kind + faded)}"
                    f"{_text(column.label, line.y, label, 'dim' if faded else '')}</g>")
    return body


def _bar(column: _Column, box: Box, y: float, kind: str) -> str:
    half = column.half(box)
    return (f'<rect class="{kind}" x="{column.spine - half:.1f}" y="{y - BAR / 2:g}" width="{2 * half:.1f}" '
            f'height="{BAR}" rx="2"/>')


def _bands(lines: Sequence[_Line], width: float) -> list[str]:
    """A light band behind every row that changed."""
    return [f'<rect class="band" x="0" y="{line.y - LINE / 2:g}" width="{width:g}" height="{LINE}"/>'
            for line in lines if line.row.change in (CHANGED, ADDED, REMOVED)]


def _names(lines: Sequence[_Line]) -> list[str]:
    signs = {ADDED: "+", REMOVED: "−", CHANGED: "~"}
    body = []
    for line in lines:
        if line.index:
            continue
        sign = signs.get(line.row.change, "")
        body.append(_text(4, line.y, sign, f"head {line.row.change}") if sign else "")
        name = line.row.name
        short = name if len(name) <= 23 else f"{name[:8]}…{name[-14:]}"
        body.append(f"<g><title>{escape(name)}</title>{_text(16, line.y, short, 'dim')}</g>")
    return body


def _legend(lines: Sequence[_Line], y: float) -> tuple[list[str], float]:
    """What the colours mean, and where that ends."""
    words = {parts.DENSE: "dense", parts.POINTWISE: "1×1", parts.DEPTHWISE: "depthwise", parts.LINEAR: "linear",
             parts.JOIN: "joins", parts.OTHER: "other"}
    present = {box.kind for line in lines for box in (line.before, line.after) if box is not None}
    body, x = [], float(NAMES)
    for kind, word in words.items():
        if kind in present:
            body.append(f'<rect class="{kind}" x="{x:g}" y="{y - 5:g}" width="10" height="10" rx="2"/>'
                        f"{_text(x + 14, y, word, 'dim')}")
            x += 34 + 6.5 * len(word)
    body.append(_text(x, y, "bars as wide as their channels", "dim"))
    return body, x + 190


def _text(x: float, y: float, text: str, kind: str = "", more: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y + 4:g}"{named}{more}>{escape(text)}</text>'
