"""What is compared: the metrics by the names that --tolerance knows, and the value of each in every trial."""
import collections

Metric = collections.namedtuple("Metric", "field unit more_is_worse")
Metric.__doc__ = """field: its name in a trial's row. more_is_worse: False where a fall is the loss."""

METRICS = {
    "energy": Metric("energy_mj", "mJ/image", True),
    "latency": Metric("latency_p50_ms", "ms", True), "latency_p50": Metric("latency_p50_ms", "ms", True),
    "latency_p90": Metric("latency_p90_ms", "ms", True), "latency_p95": Metric("latency_p95_ms", "ms", True),
    "latency_p99": Metric("latency_p99_ms", "ms", True), "latency_max": Metric("latency_max_ms", "ms", True),
    "compute": Metric("compute_ms", "ms", True), "throughput": Metric("throughput_img_s", "img/s", False),
}
COULD_NOT_MEASURE = "could not measure"
FIELDS = sorted({metric.field for metric in METRICS.values()})


def unmeasured(name, reason=""):
    """A row of one metric that could not be measured; see `comparison.row` for what a row holds."""
    metric = METRICS[name]
    return {"metric": name, "unit": metric.unit, "more_is_worse": metric.more_is_worse, "tolerance": None,
            "verdict": COULD_NOT_MEASURE, "ratio": None, "low": None, "high": None, "baseline": None, "present": None,
            "reason": reason}


def scopes_differ(scopes):
    """Why energies of these scopes are not compared, or "" where they may be."""
    words = " and ".join(sorted(str(scope) for scope in scopes))
    return "one energy is not of what the other is of ({})".format(words) if len(scopes) > 1 else ""


def values(result, field):
    """The value of each trial, or [] where not every trial has a positive number."""
    found = [row.get(field) for row in result["trials"]]
    sound = all(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
                for value in found)
    return [float(value) for value in found] if sound else []


def rounding(result, field):
    """The relative error that a sensor's step may have left in all trials of a result alike; only energy has one."""
    power, trials = result.get("power") or {}, values(result, field)
    if field != "energy_mj" or not trials or not power.get("rounding_mj"):
        return 0.0
    return power["rounding_mj"] / min(trials)
