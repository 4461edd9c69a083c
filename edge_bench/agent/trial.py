"""One trial: a fresh process that loads the model anew, warms up until it is told to go, and measures one window.

It reads the request (one line) and later "go" (one line) on standard input, and writes events to standard output:
open, block ... block, window, then it ends. Marks are CLOCK_MONOTONIC seconds, which the sampler uses too.
"""
import array
import gc
import json
import select
import sys
import time

from devices.support.errors import EdgesynthError, UserError
from edge_bench.agent import cores, memory, protocol, statistics
from edge_bench.agent.preflight import temperatures
from edge_bench.agent.runners import open_runner

TICK_MS = 1e-4  # latencies are kept in steps of 0.1 us, so that a replay gives the very same numbers


def main(words=()):
    """The verb `_trial`. Returns an exit code."""
    lines = protocol.claim_stdout()
    try:
        request = json.loads(sys.stdin.readline() or "null")
        if not isinstance(request, dict):
            raise UserError("a trial needs a request on its standard input")
        run(request, lines)
    except EdgesynthError as error:
        lines.error(error)
        return error.exit_code
    except MemoryError:
        lines.error(UserError("not enough memory to load or run the model: use a smaller batch or model"))
        return UserError.exit_code
    return 0


def run(request, lines):
    """Load, warm up, measure, and write the events."""
    if request.get("sampler_core") is not None:
        cores.leave(request["sampler_core"])
    began = time.monotonic()
    runner = open_runner(request)
    try:
        lines.event("open", runner=runner.describe(), load_s=time.monotonic() - began)
        if request.get("layers_pass"):
            _layers(runner, lines)
            return
        gc.collect()
        gc.disable()  # a collection in the window would be Python's time, not the model's
        while True:
            start, end, latencies, _ = _run_for(runner, runner.block_s)
            lines.event("block", start_s=start, end_s=end, latency_ms=1e3 * statistics.median(latencies),
                        temperature_c=hottest(request.get("root", "/")))
            if select.select([sys.stdin], [], [], 0)[0]:
                if sys.stdin.readline().strip() != "go":
                    return  # the parent is gone or has given up
                break
        start, end, latencies, compute = _run_for(runner, request["window"])
        lines.event("window", start_s=start, end_s=end, inferences=len(latencies), latencies=pack(latencies),
                    compute_ms=statistics.median(compute) if compute else None,
                    temperature_c=hottest(request.get("root", "/")),
                    peak_rss_bytes=memory.peak_bytes(),
                    device_bytes=runner.describe().get("device_bytes"))
    finally:
        runner.close()


def _run_for(runner, seconds):
    """(start, end, seconds of each inference, device ms of each or []) of inferences for at least `seconds`."""
    if runner.run_for is not None:
        return runner.run_for(seconds)
    clock, infer, synchronise = time.monotonic, runner.infer, runner.synchronise
    latencies, compute = array.array("d"), array.array("d")
    keep, keep_compute = latencies.append, compute.append
    device_clock = runner.has_device_clock
    synchronise()
    start = clock()
    stop = start + seconds
    while True:
        before = clock()
        infer()
        synchronise()
        after = clock()
        keep(after - before)
        if device_clock:
            keep_compute(runner.compute_ms())
        if after >= stop:
            return start, after, latencies, compute


def _layers(runner, lines):
    """The separate pass for single layers: a second of warm-up, then the profile."""
    _run_for(runner, 1.0)
    lines.event("layers", layers=runner.layer_times_ms())


def hottest(root):
    """The highest temperature of the machine in degrees, or None."""
    found = temperatures(root)
    return max(found.values()) if found else None


def pack(latencies):
    """[[latency in 0.1 us, how often], ...], sorted: exact to the tick and small for any number of inferences."""
    counts: dict = {}
    for seconds in latencies:
        tick = round(seconds * 1e3 / TICK_MS)
        counts[tick] = counts.get(tick, 0) + 1
    return [[tick, counts[tick]] for tick in sorted(counts)]


def unpack(packed):
    """The latencies in ms, sorted, of what `pack` made."""
    latencies = array.array("d")
    for tick, count in packed:
        latencies.extend([tick * TICK_MS] * count)
    return latencies
