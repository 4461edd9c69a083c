"""The console's last screen of a run: the networks, whether 1r holds, and where the numbers come from."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from devices.support.reading import CORRECTED, MEASURED, PREDICTED
from synth.objective.requirements import NO, UNCERTAIN, YES, Requirement
from synth.report.columns import MARKS, Column, column, columns, name_in_words
from synth.report.summary import FERMINET, PROTOTYPE, Judgement, NetworkRow, RunSummary

# before what is read on the target
SHOWN = ("accuracy", "params", "macs", "information_density", "netscore", "latency_here")
STYLES = {YES: "green", NO: "bold red", UNCERTAIN: "yellow"}


def console_table(summary: RunSummary) -> RenderableType:
    """The result of a run for `rich`: warnings first, then prototype and FermiNets, 1r requirement by requirement,
    a legend of the marks, and the next commands."""
    parts: list[RenderableType] = [Text(f"warning: {warning}", style="yellow") for warning in summary.warnings]
    parts.append(_Fitting(summary))
    if summary.requirements and summary.ferminets:
        parts += [Text(), _requirements(summary)]
    parts += [Text(), _Legend(summary)]
    parts += [Text.assemble((f"{what}: ", "dim"), command) for what, command in summary.next_steps.items()]
    return Group(*parts)


def shown_columns(summary: RunSummary) -> list[Column]:
    """The columns of one screen; the HTML report has all of them."""
    found = columns(summary.networks, summary.target)
    return [column for column in found if column.key in SHOWN or "@" in column.key]


class _Fitting:
    """The table of networks, with as many columns as the console has room for; the report has them all."""

    def __init__(self, summary: RunSummary):
        self.summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _networks(self.summary, self.shown(console, options))

    def shown(self, console: Console, options: ConsoleOptions) -> list[Column]:
        """The columns that this console has room for."""
        shown = shown_columns(self.summary)
        spare = self._dispensable(shown)
        table = _networks(self.summary, shown)
        while spare and Measurement.get(console, options.update(width=1000), table).maximum > options.max_width:
            shown.remove(spare.pop(0))
            table = _networks(self.summary, shown)
        return shown

    def _dispensable(self, shown: list[Column]) -> list[Column]:
        """What 1r does not ask about and can go, first what says least: other batches, img/J beside mJ, density."""
        required = {Requirement.parse(text).key for text in self.summary.requirements}
        on_target = [column for column in reversed(shown) if "@" in column.key and column.key not in required]
        groups = ([column for column in shown if column.key == "latency_here"],
                  [column for column in on_target if column.batch != 1],
                  [column for column in on_target if column.key.startswith("img_per_joule")],
                  [column for column in shown if column.key == "information_density"],
                  on_target)
        return list(dict.fromkeys(column for group in groups for column in group))


def _networks(summary: RunSummary, shown: list[Column]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for shown_one in shown:
        table.add_column(shown_one.title, justify="right", no_wrap=True)
    table.add_column("1r", no_wrap=True)
    for row in summary.networks:
        cells = [_cell(column, row) for column in shown]
        holds = Text(row.holds, STYLES[row.holds]) if row.holds and row.role != PROTOTYPE else Text("–", "dim")
        table.add_row(Text(name_in_words(row.name), "bold" if row.role == FERMINET else ""), *cells, holds)
    return table


def _cell(column: Column, row: NetworkRow) -> Text:
    reading = row.readings.get(column.key)
    if reading is None:
        return Text("–", "dim")
    spread = column.spread(reading) if column.mark(reading) else ""
    text = Text(column.number(reading))
    text.append(f" {spread}" if spread else "", "dim")
    text.append(f" {column.mark(reading)}" if column.mark(reading) else "", "cyan")
    return text


def _requirements(summary: RunSummary) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("1r")
    for row in summary.ferminets:
        table.add_column(name_in_words(row.name), no_wrap=True)
    for requirement in summary.requirements:
        found = [_judgement(row, requirement) for row in summary.ferminets]
        table.add_row(requirement, *(_verdict(judgement) for judgement in found))
    return table


def _judgement(row: NetworkRow, requirement: str) -> Judgement | None:
    return next((judgement for judgement in row.judgements if judgement.requirement == requirement), None)


def _verdict(judgement: Judgement | None) -> Text:
    """Whether it holds, and the reading that it was decided on."""
    if judgement is None:
        return Text("–", "dim")
    text = Text(judgement.verdict.holds, STYLES[judgement.verdict.holds])
    if judgement.reading is not None:
        shown = column(Requirement.parse(judgement.requirement).key)
        text.append(f" {shown.number(judgement.reading)}", "dim")
        text.append(f" {shown.mark(judgement.reading)}".rstrip(), "cyan")
    return text


class _Legend:
    """What stands below the tables, of the columns that they have room for."""

    def __init__(self, summary: RunSummary):
        self.summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from _legend(self.summary, _Fitting(self.summary).shown(console, options))


def _legend(summary: RunSummary, shown: list[Column]) -> list[Text]:
    """One line for every source that stands behind a marked number of these columns, and what ± means."""
    lines = [Text("accuracy on the test split, read once; 1r is decided on the validation split", "dim")]
    marked = [(column, reading) for row in summary.networks for column in shown
              if (reading := row.readings.get(column.key)) is not None and column.mark(reading)]
    if any(column.spread(reading) for column, reading in marked):
        lines.append(Text("± is half of the 95 % interval, which for predictions is symmetric in the logarithm", "dim"))
    for provenance, words in ((PREDICTED, "predicted by"), (CORRECTED, "predicted by"), (MEASURED, "measured:")):
        sources = dict.fromkeys(reading.source for _, reading in marked if reading.provenance == provenance)
        lines += [Text.assemble((f"{MARKS[provenance]} ", "cyan"), (f"{words} {source}", "dim")) for source in sources]
    return lines
