"""The comparison of two models measured in turns, schema "edgesynth.compare/1": made, checked, shown to a person."""
from devices.support.errors import UserError
from devices.support.files import read_json
from edge_bench.agent import metrics, pair, ratio, result, statistics, store
from edge_bench.agent.arguments import PAIRS

SCHEMA = "edgesynth.compare/1"
WORSE, BETTER, NOT_CLEAR = "worse", "better", "no clear difference"
SHOWN = ("latency", "latency_p90", "latency_p95", "latency_p99", "throughput", "compute", "energy")
FIELDS = {"created": str, "order": list, "base": dict, "head": dict, "marks": list, "warnings": list, "metrics": list}


def make(record):
    """The comparison of a record (see `pair.measure_pair`). A replay gives the same.

    {"created", "order", "base", "head": a result each, "marks", "warnings": of either, "metrics": rows (see `row`),
    "layers": see `layer_changes`, or None}.
    """
    sides = pair.evaluate_pair(record)
    base, head = sides[pair.BASE], sides[pair.HEAD]
    rows = [row(name, [(base, head)]) for name in SHOWN
            if metrics.values(base, metrics.METRICS[name].field) or metrics.values(head, metrics.METRICS[name].field)]
    warnings = ["{}: {}".format(side, text) if text not in other["warnings"] else text
                for side, one, other in (("base", base, head), ("head", head, base)) for text in one["warnings"]]
    differ = ["{} {} and {}".format(name, base["runner"].get(name), head["runner"].get(name))
              for name in ("precision", "batch") if base["runner"].get(name) != head["runner"].get(name)]
    if differ:
        warnings.append("base and head differ in more than the model: {}".format(", ".join(differ)))
    return {"created": record["created"], "order": record["order"], "base": base, "head": head,
            "marks": list(dict.fromkeys(base["marks"] + head["marks"])),
            "warnings": list(dict.fromkeys(warnings)), "metrics": rows,
            "layers": layer_changes(base.get("layers"), head.get("layers"))}


def row(name, sessions):
    """One metric over all pairs of one or more comparisons: what compare/1 and check/1 call a metric.

    sessions: [(base result, head result)]. "ratio" is how much worse (1.05: 5 % worse), with its 95 % interval; all
    None where it could not be measured, the interval alone where the pairs are too few. "verdict" is of the comparison
    alone: no tolerance is in it.
    """
    metric = metrics.METRICS[name]
    sides = [[metrics.values(one, metric.field) for one in side] for side in zip(*sessions)]
    for side, parts in zip(("base", "head"), sides):
        if not all(parts):
            return metrics.unmeasured(name, "{} has no {}{}".format(
                side, name, ": measure with --power" if name == "energy" else ""))
    scopes = {(one.get("power") or {}).get("scope") for both in sessions for one in both}
    if name == "energy" and metrics.scopes_differ(scopes):
        return metrics.unmeasured(name, metrics.scopes_differ(scopes))
    pairs = [couple for old, new in zip(*sides) for couple in zip(old, new)]
    bounds = [max(metrics.rounding(one, metric.field) for one in side) for side in zip(*sessions)]
    estimate = ratio.of_pairs(pairs, bounds)
    if not metric.more_is_worse:
        estimate = ratio.inverse(estimate)
    found = dict(metrics.unmeasured(name, "fewer than {} pairs show no interval: measure {} of each".format(
        statistics.FEWEST, PAIRS)),
                 ratio=estimate.value, baseline=ratio.centre([[old for old, _ in pairs]]),
                 present=ratio.centre([[new for _, new in pairs]]))
    if estimate.low is not None:
        verdict = WORSE if estimate.low > 1 else BETTER if estimate.high < 1 else NOT_CLEAR
        found.update(low=estimate.low, high=estimate.high, verdict=verdict, reason="{} pairs".format(estimate.units))
    return found


def layer_changes(base, head):
    """[{"name", "baseline_ms", "present_ms", "change_ms"}], the largest change first; None where a side has no layers.

    base, head: [{"name", "ms"}]. A layer that only one side has counts as 0 ms on the other, where it has None.
    """
    if not base or not head:
        return None
    old, new = ({layer["name"]: layer["ms"] for layer in layers} for layers in (base, head))
    changes = [{"name": name, "baseline_ms": old.get(name), "present_ms": new.get(name),
                "change_ms": new.get(name, 0.0) - old.get(name, 0.0)} for name in list(dict.fromkeys([*old, *new]))]
    return sorted(changes, key=lambda change: -abs(change["change_ms"]))


def replay(path):
    """The comparison recomputed from the record that was kept beside it."""
    return make(store.load_record(path, pair.SCHEMA))


def check(comparison, name="the comparison"):
    """The comparison itself when it is whole; UserError that names what is missing or wrong."""
    for field, kind in FIELDS.items():
        if not isinstance(comparison.get(field), kind):
            raise UserError("{}: '{}' is missing or damaged; compare again".format(name, field))
    for side in pair.SIDES:
        result.check(comparison[side], "{} ({})".format(name, side))
    if len(comparison["base"]["trials"]) != len(comparison["head"]["trials"]):
        raise UserError("{}: its sides have different numbers of trials; compare again".format(name))
    return comparison


def load(path):
    """The comparison in a file. UserError when the file is damaged or of another kind."""
    return check(read_json(path, SCHEMA), path)


def save(comparison, record, folder=store.FOLDER):
    """Keep a comparison and its record under the next number; returns the path of the comparison."""
    words = (comparison["base"]["model"]["name"], comparison["head"]["model"]["name"],
             comparison["head"]["preflight"]["board"]["board"])
    return store.keep(comparison, record, list(dict.fromkeys(words)), SCHEMA, folder)


def to_text(comparison):
    """The comparison as lines for a person: where, each metric with its ratio and interval, layers, warnings."""
    base, head = comparison["base"], comparison["head"]
    lines = [result.headline(head),
             "base {}   head {}   {} trials each × {:g} s, in turns".format(
                 model_words(base), model_words(head), len(head["trials"]), head["protocol"]["window"])]
    rows = [("", "base", "head", "worse by", "95 % interval", "")]
    for found in comparison["metrics"]:
        known = found["ratio"] is not None
        rows.append((found["metric"], result.figure(found["baseline"]),
                     "{} {}".format(result.figure(found["present"]), found["unit"]),
                     percent(found["ratio"]) if known else "?", interval_words(found),
                     found["verdict"] if found["verdict"] != metrics.COULD_NOT_MEASURE else found["reason"]))
    lines += columns(rows)
    lines += ["  {:>10} ms  {}".format("{:+.3g}".format(change["change_ms"]), change["name"])
              for change in (comparison["layers"] or [])[:10]]
    if comparison["marks"]:
        lines.append("marked     " + ", ".join(comparison["marks"]))
    return "\n".join(lines + ["warning    " + text for text in comparison["warnings"]])


def columns(rows):
    """Lines of a table of words: every column as wide as its widest cell."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip() for cells in rows]


def model_words(found):
    """"net (1a2b3c4d)": the model's name and the beginning of its file's hash."""
    return "{} ({})".format(found["model"]["name"], str(found["model"]["sha256"])[:8])


def percent(share):
    """"+7.9 %" of the ratio 1.079."""
    return "{:+.1f} %".format(100 * (share - 1))


def interval_words(found):
    """"[6.1, 9.8] %" of a row's interval, or "" where it has none."""
    if found["low"] is None:
        return ""
    return "[{:.1f}, {:.1f}] %".format(100 * (found["low"] - 1), 100 * (found["high"] - 1))
