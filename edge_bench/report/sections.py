"""What the report says of one measurement in words and tables: headline, tiles, trials, marks, provenance, replay."""

from __future__ import annotations

import os
from typing import Any

from devices.units import format_quantity
from edge_bench.agent import result as results
from edge_bench.report import figures
from edge_bench.report.measurement import Measurement
from edge_bench.report.number import NO_BREAK, Number, number, percent, plain, words
from edge_bench.report.table import MISSING, Cell, Table, phrase, quantity

# reading: its name on a tile or in a table, in this order
TITLES = {"energy_mj": "energy per image", "img_per_joule": "images per joule", "latency_p50_ms": "latency, median",
          "latency_p99_ms": "latency, p99", "throughput_img_s": "throughput", "power_mw": "power"}
# mark: (what it says, what to do); see `evaluate`
MARKS = {
    "quick": ("fewer than 5 trials or windows below 10 s: a first look", "leave --quick, --trials and --window out"),
    "not_steady": ("the warm-up ended before the numbers were steady", "cool or quieten the board, or raise "
                                                                       "--warmup-cap"),
    "unlocked": ("clocks were not seen to be pinned, so they may have moved", "measure with --lock"),
    "clocks_unknown": ("the machine does not show its clocks, so they may have moved",
                       "compare it with results of that machine alone"),
    "throttled": ("clocks were held down while it was measured", "let the board cool, improve its cooling or, after "
                                                                  "over-current, its supply"),
    "busy": ("other processes used the processor or the GPU", "end them; preflight names them"),
    "pipelined": ("inferences overlapped: a throughput run, not comparable with others", "leave --pipelined out"),
    "origin_unknown": ("no side-car of this very engine says what it was built from", "build it with edgesynth export"),
    "drift": ("latency drifted over the trials", "let the board settle and measure again"),
    "outliers": ("one trial lies apart from the others; it is kept", "look at its power and temperature below"),
}
OF_TRIALS = {"latency_p50_ms": ("p50", "ms"), "latency_p90_ms": ("p90", "ms"), "latency_p99_ms": ("p99", "ms"),
             "latency_max_ms": ("max", "ms"), "throughput_img_s": ("throughput", "img/s"),
             "energy_mj": ("energy", "mJ"), "power_mw": ("power", "mW"),
             "temperature_c": ("hottest", "°C"), "warmup_s": ("warm-up", "s")}


def section(measured: Measurement) -> dict[str, Any]:
    """Everything that the template shows of one measurement."""
    result = measured.result
    return {
        "title": f"{measured.name} on {measured.where}", "heading": results.headline(result),
        "answer": answer(measured), "tiles": tiles(measured), "warnings": result["warnings"], "marks": marks(result),
        "trials": trial_table(measured), "trial_figures": figures.trials(measured),
        "latencies": figures.latencies(measured), "power": figures.power(measured), "rails": figures.rails(measured),
        "settling": figures.settling(measured), "layers": figures.layers(measured),
        "layer_table": layer_table(measured), "provenance": provenance(measured), "missing": measured.missing,
        "protocol": results.protocol_words(result), "idle_s": measured.idle and measured.idle[1] - measured.idle[0],
    }


def answer(measured: Measurement) -> str:
    """The headline in a sentence."""
    latency = measured.reading("latency_p50_ms")
    energy, rate = measured.reading("energy_mj"), measured.reading("img_per_joule")
    if latency is None:
        raise ValueError("it has no latency")
    p50 = number(latency)
    if energy is None or rate is None:
        return f"{p50.words} a batch of {measured.result['batch']} (median{_interval(p50)}); no energy was measured."
    per = number(energy)
    scope = {"module": "the module, without its carrier", "board": "the whole board"}.get(energy.scope, energy.scope)
    return (f"{per.words} an image{_interval(per)}, {words(rate.value, 'images')} a joule, of {scope}; "
            f"{p50.words} median latency{_interval(p50)} at batch {measured.result['batch']}.")


def _interval(shown: Number) -> str:
    return f" {shown.spread}" if shown.spread else ""


def tiles(measured: Measurement) -> list[tuple[str, Number]]:
    """(name, number) of the headline readings that there are."""
    found = []
    for key, title in TITLES.items():
        reading = measured.reading(key)
        if reading is not None:
            if key == "power_mw":
                title = f"{title}, {(measured.result['power'] or {}).get('total_name') or 'total'}"
            found.append((title, number(reading)))
    return found


def marks(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(mark, what it says, remedy)."""
    return [(mark, *MARKS.get(mark, ("", ""))) for mark in result["marks"]]


def trial_table(measured: Measurement) -> Table:
    rows = measured.result["trials"]
    fields = [field for field in OF_TRIALS if any(row.get(field) is not None for row in rows)]
    return Table("Trials, each a fresh process; the intervals above come from the spread between them",
                 ["trial", *(OF_TRIALS[field][0] for field in fields), "inferences"],
                 [[Cell(str(i + 1), i + 1, "" if row["steady"] else "not steady"),
                   *(quantity(row.get(field), OF_TRIALS[field][1]) for field in fields),
                   Cell(plain(row["inferences"], 0), row["inferences"])] for i, row in enumerate(rows)])


def layer_table(measured: Measurement) -> Table | None:
    found = measured.result.get("layers")
    if not found:
        return None
    whole = sum(layer["ms"] for layer in found) or 1.0
    joules = any(layer.get("attributed_mj") is not None for layer in found)
    rows = [[phrase(layer["name"]), quantity(layer["ms"], "ms"), Cell(percent(layer["ms"] / whole, 1), layer["ms"]),
             *([quantity(layer.get("attributed_mj"), "mJ")] if joules else [])] for layer in found]
    return Table("Layers; energy is attributed by time, since no sensor here is as fast as a layer",
                 ["layer", "time", "share", *(["energy, attributed"] if joules else [])], rows)


def provenance(measured: Measurement) -> dict[str, Any]:
    """{name: words, or {"code": words}} of all that a reader needs to trust the numbers, or to measure them again."""
    result = measured.result
    state, runner, model, power = result["preflight"], result["runner"], result["model"], result.get("power")
    board, software, mode = state["board"], state["software"], state["mode"] or {}
    clocks = {True: "locked (lowest, highest and present clocks are one)", False: "not locked", None: "unknown"}
    pieces = {
        "measured": result["created"], "board": _joined(board.get("model"), board["board"]),
        "serial": board.get("serial"),
        "L4T": software.get("l4t"), "TensorRT": software.get("tensorrt"), "CUDA": software.get("cuda"),
        "kernel, Python": _joined(software.get("kernel"), software.get("python")), "power mode": mode.get("name"),
        "clocks": clocks[state["clocks"]["locked"]] + _clock_words(state["clocks"]),
        "fan": f"PWM {state['fan']['pwm']} of 255" if state.get("fan") else None,
        "temperatures": _joined(*(f"{zone} {value:.1f}{NO_BREAK}°C" for zone, value in
                                  (state.get("temperatures_c") or {}).items())),
        "throttling": _joined(*(state.get("throttling") or [])) or "none seen",
        "model": _joined(model.get("file"), _bytes(model.get("bytes"))),
        "sha256 of the model": {"code": model["sha256"]} if model.get("sha256") else None,
        "runner": _joined(f"{runner['name']} {runner.get('version') or ''}".strip(), runner.get("precision"),
                          f"batch {result['batch']}", "pipelined" if runner.get("pipelined") else None),
        "engine": _bytes(runner.get("engine_bytes")),
        "memory": _joined(f"peak RSS {_bytes(result['memory'].get('peak_rss_bytes'))}"
                          if result["memory"].get("peak_rss_bytes") else None,
                          f"device {_bytes(result['memory'].get('device_bytes'))}"
                          if result["memory"].get("device_bytes") else None),
        "agent": {"code": software["agent"]} if software.get("agent") else "edgesynth as it is installed there",
        "power": _power_words(power) if power else "not measured",
        "result": {"code": os.fspath(measured.place)},
        "record": {"code": f"{os.path.basename(measured.kept[0])}  sha256 {measured.kept[1]}"}
        if measured.kept else measured.missing,
        "recompute it": {"code": measured.replay_command} if measured.replay_command else None,
        "measure it again": {"code": measured.command} if measured.command else None,
    }
    return {name: value for name, value in pieces.items() if value}


def _clock_words(clocks: dict[str, Any]) -> str:
    seen = [clock for clock in [*(clocks.get("cpu") or [])[:1], clocks.get("gpu"), clocks.get("emc")]
            if clock and clock.get("current_hz")]
    return "".join(f"; {clock['name']} {clock['current_hz'] / 1e6:.0f}{NO_BREAK}MHz" for clock in seen)


def _power_words(power: dict[str, Any]) -> str:
    refresh, quantum = power.get("refresh_s"), power.get("quantum_mw")
    return _joined(
        f"{power['source']['name']}, {power.get('total_name')} ({power.get('scope')})",
        f"{plain(power['samples'], 0)} samples, one each {1000 * power['interval_s']:.0f}{NO_BREAK}ms",
        f"the sensor's own refresh {1000 * refresh:.0f}{NO_BREAK}ms" if refresh else None,
        f"its step {words(quantum, 'mW')}" if quantum else None,
        f"idle {words(power['idle_mw'] / 1000, 'W')}" if power.get("idle_mw") else None)


def _bytes(count: float | None) -> str | None:
    return None if not count else format_quantity(count, "bytes").replace(" ", NO_BREAK)


def _joined(*pieces: str | None) -> str:
    return " · ".join(str(piece) for piece in pieces if piece)


def result_table(several: list[Measurement], labels: list[str]) -> Table:
    """Results side by side."""
    present = [key for key in TITLES if any(measured.reading(key) is not None for measured in several)]
    rows = []
    for measured, label in zip(several, labels, strict=True):
        result = measured.result
        mode = (result["preflight"]["mode"] or {}).get("name")
        conditions = _joined(measured.where, mode, result["runner"].get("precision"), f"batch {result['batch']}")
        row = [phrase(label, conditions)]
        for key in present:
            reading = measured.reading(key)
            shown = None if reading is None else number(reading)
            row.append(MISSING if shown is None else Cell(shown.words, shown.value, shown.spread))
        rows.append([*row, phrase(", ".join(result["marks"]) or "none", result["created"][:10])])
    return Table("Results side by side, all measured; a click on a title sorts. Brackets: 95 % interval",
                 ["model", *(TITLES[key] for key in present), "marked"], rows)


def labels(several: list[Measurement]) -> list[str]:
    """A name for each: the model's, with what tells it apart where several have the same."""
    names = [measured.name for measured in several]
    files = [os.path.splitext(os.path.basename(measured.place))[0].removesuffix(".record") for measured in several]
    return [file if names.count(name) > 1 else name for name, file in zip(names, files, strict=True)]
