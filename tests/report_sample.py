"""Measurements that were never made, drawn with the noise of a TX2, evaluated by the agent's own code: for reports."""

from __future__ import annotations

import math
import random
from pathlib import Path

from edge_bench.agent import comparison, evaluate, pair, store
from edge_bench.agent.trial import pack

RAILS = {"VDD_IN": 1.0, "VDD_SYS_GPU": 0.38, "VDD_SYS_CPU": 0.17, "VDD_SYS_DDR": 0.20, "VDD_SYS_SOC": 0.14,
         "VDD_4V0_WIFI": 0.01}
STEP_MW, INTERVAL_S, REST_S, GAP_S = 38, 0.05, 5.0, 6.0


def sample_record(name: str = "ferminet-a", *, latency_ms: float = 1.87, busy_mw: float = 5040.0, trials: int = 5,
                  window_s: float = 10.0, warmup_s: float = 8.0, seed: int = 1, locked: bool = True,
                  start_s: float = 1000.0, places: tuple[int, ...] = (), power: bool = True, layers: bool = True,
                  created: str = "2026-11-20T09:12:04Z") -> dict:
    """A record of `trials` trials, each after a rest and a warm-up. places: when each has its turn, for ABBA."""
    noise = random.Random(seed)
    runner = {"name": "tensorrt", "version": "8.2.1", "precision": "fp16", "batch": 1, "pipelined": False,
              "engine_bytes": 412_000, "device_bytes": 9_400_000}
    rows, turn = [], window_s + warmup_s + GAP_S
    for number in range(trials):
        clock = start_s + REST_S + 1.0 + turn * (places[number] if places else number)
        own = latency_ms * (1 + noise.gauss(0, 0.004))
        begin = clock + warmup_s
        spread, at = [], 0.0
        while at < window_s:
            late = noise.expovariate(1 / 0.12) if noise.random() < 0.012 else 0.0
            spread.append(max(own * (1 + noise.gauss(0, 0.004)) + late, 0.5 * own) / 1000)
            at += spread[-1]
        blocks = [own * (1 + (0.35 if number == 0 else 0.12) * math.exp(-k / 2.5) + noise.gauss(0, 0.003))
                  for k in range(16)]
        rows.append({"runner": runner, "load_s": 0.8, "start_s": begin, "end_s": begin + at, "inferences": len(spread),
                     "latencies": pack(spread), "compute_ms": 0.93 * own, "temperature_c": 41.0 + 0.6 * number,
                     "peak_rss_bytes": 412_000_000, "device_bytes": 9_400_000,
                     "warmup": {"seconds": warmup_s, "steady": True, "unsteady": [], "latency_ms": blocks}})
    state = {"board": {"board": "tx2", "model": "NVIDIA Jetson TX2 Developer Kit", "serial": "0421819000042",
                       "hostname": "tegra"}, "mode": {"id": 0, "name": "MAXN"},
             "software": {"l4t": "32.7.1", "tensorrt": "8.2.1", "cuda": "10.2", "kernel": "4.9.253", "python": "3.6.9",
                          "agent": "a9" * 32},
             "fan": {"pwm": 255}, "temperatures_c": {"GPU-therm": 38.5, "CPU-therm": 39.0}, "throttling": [],
             "clocks": {"cpu": [], "emc": None, "locked": locked,
                        "gpu": {"name": "gpu", "min_hz": 1300500000, "max_hz": 1300500000, "current_hz": 1300500000}},
             "load": {"cpu_share": 0.03, "processes": []},
             "warnings": [] if locked else ["clocks are not locked: lock them with --lock"]}
    request = {"trials": trials, "window": window_s, "warmup_cap": 120.0, "seed": 0, "pipelined": False, "shape": [],
               "quick": trials < 5 or window_s < 10, "power": power, "lock": locked, "runner": "tensorrt",
               "batch": None, "precision": "fp16", "layers": layers}
    return {"created": created, "request": request, "preflight": state, "trials": rows,
            "model": {"name": name, "file": f"{name}.onnx", "sha256": f"{seed:02x}" * 32, "bytes": 187_000},
            "power": _power(noise, start_s, rows, busy_mw, warmup_s) if power else None,
            "layers": [{"name": f"stage{k // 4 + 1}.block{k % 4}.conv + relu", "ms": 0.05 + 0.11 * noise.random()}
                       for k in range(24)] if layers else None}


def _power(noise: random.Random, start_s: float, rows: list[dict], busy_mw: float, warmup_s: float) -> dict:
    """What an INA3221 shows: filtered, in steps, idle at 2.5 W."""
    steps, columns, shown = [], {rail: [] for rail in RAILS}, 2500.0
    count = int((rows[-1]["end_s"] + GAP_S - start_s) / INTERVAL_S)
    for k in range(count):
        moment = start_s + k * INTERVAL_S
        busy = any(row["start_s"] - warmup_s <= moment <= row["end_s"] for row in rows)
        target = (busy_mw if busy else 2500.0) * (1 + noise.gauss(0, 0.012))
        shown += (target - shown) * (1 - math.exp(-INTERVAL_S / 0.42))
        steps.append(0 if k == 0 else round(INTERVAL_S * 1e6))
        for rail, share in RAILS.items():
            columns[rail].append(round(share * shown * (1 + noise.gauss(0, 0.01)) / STEP_MW) * STEP_MW)
    source = {"name": "ina3221", "scope": "module", "totals": {"module": ["VDD_IN"]}, "rails": list(RAILS),
              "counter": False, "refresh_s": None, "quantum_mw": None}
    return {"idle": [start_s + 0.5, start_s + 0.5 + REST_S],
            "samples": {"source": source, "interval_s": INTERVAL_S, "about": {"missed": 0, "failed": 0},
                        "refresh_s": 0.05, "quantum_mw": STEP_MW, "start_s": start_s, "steps_us": steps,
                        "total_mw": columns["VDD_IN"], "energy_mj": None, "rails": columns}}


def sample_result(folder: Path, **given) -> str:
    """The path of a result with its record beside it, as bench keeps them."""
    record = sample_record(**given)
    return store.save(evaluate.evaluate(record), record, str(folder))


def sample_pair(head_factor: float = 1.12, pairs: int = 6) -> dict:
    """The record of a comparison, schema edgesynth.pair-record/1, whose head is that much slower."""
    order = pair.order(pairs)
    both = {side: sample_record(side, trials=pairs, seed=seed, latency_ms=1.87 * factor, window_s=2.0, power=False,
                                places=tuple(i for i, turn in enumerate(order) if turn == side))
            for side, seed, factor in (("base", 3, 1.0), ("head", 4, head_factor))}
    rows = sorted((row for side in both.values() for row in side["trials"]), key=lambda row: row["start_s"])
    requests = {side: dict(record["request"], power=True) for side, record in both.items()}
    return {"schema": pair.SCHEMA, "created": "2026-11-20T10:00:00Z", "order": order, "requests": requests,
            "models": {side: record["model"] for side, record in both.items()}, "trials": rows,
            "preflight": both["head"]["preflight"], "layers": {side: record["layers"] for side, record in both.items()},
            "power": _power(random.Random(9), 1000.0, rows, 5040.0, 8.0)}


def sample_compare(folder: Path, **given) -> str:
    """The path of a comparison with its record beside it, as compare keeps them."""
    record = sample_pair(**given)
    return comparison.save(comparison.make(record), record, str(folder))


def sample_check(verdict: str = "regression") -> dict:
    """A check's body, schema edgesynth.check/1."""
    def metric(name, unit, tolerance, ratio, low, high, word, reason):
        old = 41.2 if "energy" in name else 8.4
        return {"metric": name, "unit": unit, "more_is_worse": True, "verdict": word, "tolerance": tolerance,
                "ratio": ratio, "low": low, "high": high, "baseline": old, "reason": reason,
                "present": None if ratio is None else old * ratio}

    worse = [metric("energy", "mJ/image", 0.05, 1.079, 1.061, 1.098, "regression", "beyond tolerance and noise"),
             metric("latency", "ms", 0.05, 1.012, 0.994, 1.031, "pass", "within 5 %"),
             metric("latency_p99", "ms", 0.10, 1.06, 0.95, 1.19, "inconclusive", "the noise hides whether it is worse")]
    better = [metric("energy", "mJ/image", 0.05, 0.87, 0.853, 0.886, "improvement", "better"),
              metric("latency", "ms", 0.05, None, None, None, "could not measure", "the result has no such metric")]
    return {"created": "2026-11-20T10:00:00Z", "verdict": verdict, "exit_code": 1, "inconclusive": "warn",
            "against": {"kind": "baseline", "path": ".edgesynth/baseline.json"},
            "models": [{"model": "net", "file": "models/net.onnx", "verdict": verdict, "method": "sessions",
                        "line": "net on tx2 (…0042): energy +7.9 % [6.1, 9.8], tolerance 5 %: 41.2 → 44.5 mJ/image; "
                                "most of it in conv4_2", "identity": None, "notes": ["latency_p99 is inconclusive"],
                        "sessions": {"baseline": 3, "present": 2, "more": 1}, "metrics": worse, "results": [],
                        "layers": [{"name": "conv4_2", "baseline_ms": 0.41, "present_ms": 0.62, "change_ms": 0.21}]},
                       {"model": "tiny", "file": None, "verdict": "improvement", "method": "sessions",
                        "line": "tiny on tx2 (…0042): energy −13.0 %", "identity": None, "notes": [],
                        "sessions": {"baseline": 3, "present": 1, "more": 0}, "metrics": better, "results": [],
                        "layers": None}]}


def save_body(path: Path, body: dict, schema: str) -> str:
    """A body with its schema as a file; its path."""
    from devices.support.files import write_json

    write_json(path, body, schema)
    return str(path)


__all__ = ["sample_check", "sample_compare", "sample_pair", "sample_record", "sample_result", "save_body"]
