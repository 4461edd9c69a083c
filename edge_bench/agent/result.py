"""The result of a measurement, schema "edgesynth.result/1": its check, and its table for a person."""
from devices.support.errors import UserError
from devices.support.files import read_json
from devices.support.reading import MEASURED, Reading

SCHEMA = "edgesynth.result/1"
FIELDS = {"created": str, "quick": bool, "marks": list, "warnings": list, "model": dict, "runner": dict, "batch": int,
          "protocol": dict, "preflight": dict, "trials": list, "readings": dict, "memory": dict}
NOT_COMPARABLE = ("quick", "not_steady", "unlocked", "throttled")  # such a result cannot become a baseline


def check(result, name="the result"):
    """The result itself when it is whole; UserError that names what is missing or wrong."""
    if not isinstance(result, dict):
        raise UserError("{} is no JSON object".format(name))
    for field, kind in FIELDS.items():
        if not isinstance(result.get(field), kind):
            raise UserError("{}: '{}' is missing or damaged; measure again".format(name, field))
    if not result["trials"]:
        raise UserError("{}: it holds no trials; measure again".format(name))
    _check_parts(result, name)
    for key, value in result["readings"].items():
        try:
            reading = Reading.from_json(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError("{}: the reading '{}' is damaged ({}); measure again".format(name, key, error))
        if reading.provenance != MEASURED:
            raise UserError("{}: '{}' is {}, not measured".format(name, key, reading.provenance))
    return result


def _check_parts(result, name):
    """UserError where a list or a dict of a result does not hold what every reader of it relies on."""
    power, layers = result.get("power"), result.get("layers")
    sound = {"trials": all(isinstance(row, dict) for row in result["trials"]),
             "marks": all(isinstance(mark, str) for mark in result["marks"]),
             "power": power is None or (isinstance(power, dict) and isinstance(power.get("scope"), str)
                                        and _is_positive(power.get("rounding_mj", 0.0))),
             "layers": layers is None or (isinstance(layers, list) and all(
                 isinstance(layer, dict) and isinstance(layer.get("name"), str) and _is_positive(layer.get("ms"))
                 for layer in layers))}
    for field in sorted(sound):
        if not sound[field]:
            raise UserError("{}: '{}' is missing or damaged; measure again".format(name, field))


def _is_positive(value):
    """Whether this is a finite number, 0 or above."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def load(path):
    """The result in a file. UserError when the file is damaged or of another kind."""
    return check(read_json(path, SCHEMA), path)


def reading(result, name):
    """The Reading of that name, or None where the result has none."""
    value = result["readings"].get(name)
    return None if value is None else Reading.from_json(value)


def to_text(result):
    """The result as lines for a person: what was measured where, the answer, and warnings with their remedy."""
    lines = [headline(result)]
    lines.append("latency    p50 {} ms   p90 {}   p99 {}   max {}        {}".format(
        *[figure(reading(result, "latency_{}_ms".format(name)).value) for name in ("p50", "p90", "p99", "max")],
        protocol_words(result)))
    lines.append("throughput {} img/s{}".format(figure(reading(result, "throughput_img_s").value),
                                                interval_words(reading(result, "throughput_img_s"))))
    if reading(result, "compute_ms"):
        lines.append("compute    {} ms on the device".format(figure(reading(result, "compute_ms").value)))
    lines += energy_lines(result)
    memory = result["memory"]
    sizes = [("peak RSS", memory["peak_rss_bytes"]), ("device", memory.get("device_bytes")),
             ("engine", result["runner"].get("engine_bytes"))]
    words = ["{} {} MB".format(name, figure(size / 1e6)) for name, size in sizes if size]
    lines.append("memory     " + "   ".join(words))
    lines += layer_lines(result.get("layers") or [])
    if result["marks"]:
        lines.append("marked     " + ", ".join(result["marks"]))
    lines += ["warning    " + text for text in result["warnings"]]
    return "\n".join(lines)


def headline(result):
    """Board, software, runner, precision, batch and mode in one line."""
    state, runner = result["preflight"], result["runner"]
    board = state["board"]
    serial = " (serial …{})".format(str(board["serial"])[-4:]) if board.get("serial") else ""
    parts = [board["board"] + serial]
    if state["software"].get("l4t"):
        parts.append("L4T " + state["software"]["l4t"])
    parts.append("{} {} {}".format(runner["name"], runner.get("version") or "", runner.get("precision") or "").strip())
    parts.append("batch {}".format(result["batch"]))
    if state["mode"]:
        parts.append("mode {}".format(state["mode"]["name"]))
    parts.append({True: "clocks locked", False: "clocks not locked", None: "clocks unknown"}[state["clocks"]["locked"]])
    temperature = result["trials"][-1].get("temperature_c")
    if temperature is not None:
        parts.append("{:.0f} °C".format(temperature))
    return " · ".join(parts)


def protocol_words(result):
    warm = result["trials"][0]
    return "{} trials × {:g} s, {} after {:.0f} s".format(
        len(result["trials"]), result["protocol"]["window"], "steady" if warm["steady"] else "not steady",
        warm["warmup_s"])


def energy_lines(result):
    """The energy of the total rail, its scope, and where it goes; [] without a power source."""
    energy, power = reading(result, "energy_mj"), result.get("power")
    if energy is None or not power:
        return []
    excluded = "module; carrier excluded" if energy.scope == "module" else energy.scope
    lines = ["energy     {} mJ/image{}   {} img/J   {} {} W ({})".format(
        figure(energy.value), interval_words(energy), figure(reading(result, "img_per_joule").value),
        power.get("total_name") or "total", figure(reading(result, "power_mw").value / 1000.0), excluded)]
    shares = ["{} {:.0%}".format(name, share) for name, share in (power.get("shares") or {}).items()]
    above = reading(result, "energy_above_idle_mj")
    if above is not None:
        shares.append("above idle {} mJ/image".format(figure(above.value)))
    return lines + (["           " + "   ".join(shares)] if shares else [])


def layer_lines(layers, most=10):
    """The slowest layers; energy is attributed by their times, since no sensor here is as fast as a layer."""
    if not layers:
        return []
    total = sum(layer["ms"] for layer in layers)
    attributed = layers[0].get("attributed_mj") is not None
    heading = "layers     {} in a separate pass{}".format(
        len(layers), "; mJ is attributed by time, not measured" if attributed else "")
    return [heading] + ["  {:>9} ms {:>4.0%}{}  {}".format(
        figure(layer["ms"]), layer["ms"] / total if total else 0.0,
        " {:>9} mJ".format(figure(layer["attributed_mj"])) if attributed else "", layer["name"])
        for layer in sorted(layers, key=lambda layer: -layer["ms"])[:most]]


def interval_words(value):
    return "" if value.low is None else " [{}, {}]".format(figure(value.low), figure(value.high))


def figure(value):
    """Three significant digits, as a person writes them."""
    if value is None:
        return "?"
    if abs(value) >= 100:
        return "{:,.0f}".format(value).replace(",", "\u202f") if abs(value) >= 10000 else "{:.0f}".format(value)
    return "{:.3g}".format(value)
