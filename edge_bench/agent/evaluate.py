"""From a record (raw trials, power samples, the state of the machine) to a result. Pure: a replay gives the same."""
import os
import time

from devices.board import known_boards, load_board
from devices.support.errors import CannotMeasure, UserError
from devices.support.reading import MEASURED, Reading
from edge_bench.agent import joules, onnx_words, runners, statistics
from edge_bench.agent.arguments import SOUND_TRIALS, SOUND_WINDOW_S
from edge_bench.agent.load import is_busy
from edge_bench.agent.trial import TICK_MS, unpack

DRIFT_SHARE = 0.01    # a drift smaller than this over all trials is recorded and not marked
PERCENTS = (50, 90, 95, 99)
MOST_INFERENCES = 10 ** 9  # in one window; more is damage


def evaluate(record):
    """The result (schema edgesynth.result/1, without its schema and samples fields) of a record.

    record: {"created", "request", "preflight", "model", "trials", "power" or None, "layers" or None}; see
    `measure.measure`. CannotMeasure when the power samples do not carry an energy.
    """
    request, state = record["request"], record["preflight"]
    runner = record["trials"][0]["runner"]
    batch = runner["batch"]
    rows = [_latencies(trial, batch) for trial in record["trials"]]
    power = None
    if record.get("power"):
        power = joules.add_energy(rows, record, batch)
    source = _source(record, len(rows))
    result = {
        "created": record["created"], "quick": request["quick"], "marks": [], "warnings": list(state["warnings"]),
        "model": record["model"], "runner": runner, "batch": batch,
        "protocol": {name: request[name] for name in ("trials", "window", "warmup_cap", "seed", "pipelined", "quick")},
        "preflight": state, "trials": rows, "readings": _readings(rows, source, power),
        "power": power["power"] if power else None, "layers": _layers(record, power),
        "memory": _memory(record["trials"]),
        "drift": _drift(rows), "outliers": statistics.outliers([row["latency_p50_ms"] for row in rows]),
    }
    result["marks"] = _marks(result)
    result["warnings"] += _mark_warnings(result)
    return result


def replay(record):
    """The result of a record from a file. UserError when something in it does not fit, which is damage."""
    try:
        for trial in record["trials"]:
            if sum(count for _, count in trial["latencies"]) != trial["inferences"]:
                raise ValueError("the latencies are not as many as the inferences")
            if not 0 < trial["inferences"] < MOST_INFERENCES:
                raise ValueError("{} inferences".format(trial["inferences"]))
            busy_s = sum(tick * count for tick, count in trial["latencies"]) * TICK_MS / 1000.0
            seconds = trial["end_s"] - trial["start_s"]
            if seconds <= 0 or (busy_s > 1.05 * seconds and not trial["runner"].get("pipelined")):
                raise ValueError("a window of {:g} s holds inferences of {:g} s".format(seconds, busy_s))
        return evaluate(record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        raise UserError("the record is damaged ({}): measure again".format(error))


def _latencies(trial, batch):
    """One trial's numbers, of the very window that its energy comes from."""
    latencies = unpack(trial["latencies"])
    seconds = trial["end_s"] - trial["start_s"]
    row = {"start_s": trial["start_s"], "end_s": trial["end_s"], "inferences": trial["inferences"],
           "throughput_img_s": trial["inferences"] * batch / seconds, "latency_max_ms": latencies[-1],
           "compute_ms": trial.get("compute_ms"), "temperature_c": trial.get("temperature_c"),
           "load_s": trial["load_s"], "warmup_s": trial["warmup"]["seconds"], "steady": trial["warmup"]["steady"],
           "unsteady": trial["warmup"]["unsteady"], "throttling": trial.get("throttling") or [],
           "over_current": trial.get("over_current") or {}}
    for name, value in statistics.percentiles(latencies, PERCENTS).items():
        row["latency_{}_ms".format(name)] = value
    return row


def _source(record, count):
    """Where and when the numbers were measured, in words."""
    board = record["preflight"]["board"]
    name = board["board"]
    if board.get("serial"):
        name += " (serial …{})".format(str(board["serial"])[-4:])
    mode = (record["preflight"]["mode"] or {}).get("name")
    trials = "{} trial{}".format(count, "" if count == 1 else "s")
    return "{}{}, {}, {} of {:g} s".format(name, " in " + mode if mode else "", record["created"][:10], trials,
                                           record["request"]["window"])


def between_trials(values, unit, source):
    """The Reading of the median of trials, with the interval that the spread between them gives."""
    found = statistics.interval(values)
    if found.low is None:
        return Reading(found.centre, unit, MEASURED, source)
    return Reading(found.centre, unit, MEASURED, source, low=max(0.0, found.low), high=found.high)


def _readings(rows, source, power):
    """{name: Reading as JSON}. Energy and images per joule are those of the total rail and of these very windows."""
    units = {"latency_p50_ms": "ms", "latency_p90_ms": "ms", "latency_p95_ms": "ms", "latency_p99_ms": "ms",
             "throughput_img_s": "img/s"}
    readings = {name: between_trials([row[name] for row in rows], unit, source) for name, unit in units.items()}
    readings["latency_max_ms"] = Reading(max(row["latency_max_ms"] for row in rows), "ms", MEASURED, source)
    if all(row["compute_ms"] is not None for row in rows):
        readings["compute_ms"] = between_trials([row["compute_ms"] for row in rows], "ms", source)
    if power:
        readings.update(joules.readings(power, source))
    return {name: reading.to_json() for name, reading in readings.items()}


def _layers(record, power):
    """Times of the layers; with power, each with its share of the energy of an image by its time: an attribution, since
    no sensor here is as fast as a layer."""
    layers = record.get("layers")
    if not layers or not power:
        return layers
    total_ms = sum(layer["ms"] for layer in layers)
    energy_mj = power["intervals"]["energy_mj"].centre
    return [dict(layer, attributed_mj=energy_mj * layer["ms"] / total_ms if total_ms else None) for layer in layers]


def _memory(trials):
    device = [trial["device_bytes"] for trial in trials if trial.get("device_bytes") is not None]
    return {"peak_rss_bytes": max(trial["peak_rss_bytes"] for trial in trials),
            "device_bytes": max(device) if device else None}


def _drift(rows):
    """Drift of latency over the trials: {"slope_ms_per_s", "p_value", "share", "drifting"}; None below 4 trials."""
    if len(rows) < 4:
        return None
    values = [row["latency_p50_ms"] for row in rows]
    times = [row["start_s"] for row in rows]
    found = statistics.drift(times, values)
    share = found.slope * (times[-1] - times[0]) / statistics.median(values)
    return {"slope_ms_per_s": found.slope, "p_value": found.p_value, "share": share,
            "drifting": bool(found.drifting and abs(share) > DRIFT_SHARE)}


def _marks(result):
    """What a reader must know before relying on the numbers, as words; [] for a result that can become a baseline."""
    state = result["preflight"]
    throttled = any(row["throttling"] or any(row["over_current"].values()) for row in result["trials"])
    marks = {"quick": result["quick"], "not_steady": not all(row["steady"] for row in result["trials"]),
             "unlocked": state["clocks"]["locked"] is False, "clocks_unknown": state["clocks"]["locked"] is None,
             "throttled": bool(state["throttling"] or throttled),
             "busy": is_busy(state["load"]),
             "pipelined": bool(result["runner"].get("pipelined")),
             "origin_unknown": bool(result["runner"].get("origin_unknown")),
             "drift": bool(result["drift"] and result["drift"]["drifting"]), "outliers": bool(result["outliers"])}
    return [name for name, holds in marks.items() if holds]


def _mark_warnings(result):
    found = []
    if "quick" in result["marks"]:
        found.append("a first look: measure {} trials of {:g} s or more".format(
            SOUND_TRIALS, SOUND_WINDOW_S))
    if "not_steady" in result["marks"]:
        what = sorted({name for row in result["trials"] for name in row["unsteady"]})
        found.append("not steady ({}) when the warm-up ended: cool or quieten the board, or raise --warmup-cap".format(
            ", ".join(what)))
    during = sorted({name for row in result["trials"] for name in row["throttling"]})
    if during and not result["preflight"]["throttling"]:
        found.append("clocks were held down by {} during the trials: improve the cooling, or measure in a smaller "
                     "power mode".format(", ".join(during)))
    events = sum(sum(row["over_current"].values()) for row in result["trials"])
    if events:
        found.append("over-current slowed the clocks {} times during the trials: use a stronger supply, or measure in "
                     "a smaller power mode".format(events))
    if "drift" in result["marks"]:
        found.append("latency drifted by {:+.1%} over the trials: let the board settle and measure again".format(
            result["drift"]["share"]))
    if result["power"] and result["power"]["shares"].get("rest", 0.0) < -0.05:
        found.append("the rails below {} add up to more than it: check the board's file and its shunts".format(
            result["power"]["total_name"]))
    built, present = result["runner"].get("built_on"), result["preflight"]["board"]["board"]
    if built and built != present:
        found.append("the engine was built on {} and is measured on {}: its kernels were chosen for that board; build "
                     "it again here from the ONNX file".format(built, present))
    built, present = result["runner"].get("built_in_mode"), (result["preflight"]["mode"] or {}).get("name")
    if built and present and built != present:
        found.append("the engine was built in power mode {} and is measured in {}: its kernels were chosen for other "
                     "clocks; build it again in this mode to see its best".format(built, present))
    written, read = result["model"].get("opset"), _opset_read(result)
    if written and read and written > read:
        found.append("the file is of opset {}, and TensorRT {} is known to read up to {}: it may have built another "
                     "network without an error; write one that it reads with edgesynth export --target {}".format(
                         written, result["runner"]["version"], read, result["preflight"]["board"]["board"]))
    if "outliers" in result["marks"]:
        found.append("apart from the other trials, and kept: number {}".format(
            ", ".join(str(index + 1) for index in result["outliers"])))
    return found


def _opset_read(result):
    """The highest opset that the TensorRT of the measurement is known to read; None where nothing tells."""
    board, runner = result["preflight"]["board"]["board"], result["runner"]
    if runner["name"] not in runners.NEED_ENGINE or board not in known_boards():
        return None
    return load_board(board).max_opset(runner.get("version"))


def describe_model(path, sha256):
    """What a result says about the model file."""
    if not os.path.exists(path):
        raise CannotMeasure("{}: the model file is gone".format(path))
    return {"name": os.path.splitext(os.path.basename(path))[0], "file": os.path.basename(path), "sha256": sha256,
            "bytes": os.path.getsize(path), "opset": onnx_words.opset(path) if runners.is_onnx(path) else None}


def now_utc():
    """The present time as ISO 8601 in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
