"""What the sampler itself costs: its processor time at 50 Hz and its memory, on a fake /sys tree of a TX2.

The tree has all 12 rails of the four monitors; reading ordinary files costs about what reading sysfs does, while the
i2c bus of a real board adds waiting and little work.

    python tests/benchmarks/bench_sampler.py [--seconds 20] [--python PYTHON] [--json PATH]

Last the memory of the whole agent without a runner: its own process and the sampler's, while it samples.

At most 2 % of one core, at most 40 MB, at most 1 MB of samples a minute; exit code 1 when one is missed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_bench.agent.sampler import Sampler
from edge_bench.agent.spawn import agent_command

RAILS = {"0-0040": ("VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI"), "0-0041": ("VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"),
         "0-0042": ("VDD_MUX", "VDD_5V0_IO_SYS", "VDD_3V3_SYS"), "0-0043": ("VDD_3V3_IO_SLP", "VDD_1V8_IO", "VDD_M2")}
MOST_CPU_SHARE, MOST_RSS_BYTES, MOST_BYTES_A_MINUTE = 0.02, 40e6, 1e6


def fake_tree(root: Path) -> list[Path]:
    """The INA3221 monitors of a TX2 as files; returns the power files."""
    powers = []
    for number, (chip, names) in enumerate(RAILS.items()):
        folder = root / "sys/bus/i2c/drivers/ina3221x" / chip / f"iio:device{number}"
        folder.mkdir(parents=True)
        for channel, name in enumerate(names):
            (folder / f"rail_name_{channel}").write_text(name + "\n")
            powers.append(folder / f"in_power{channel}_input")
            powers[-1].write_text("03040\n")
    return powers


def agent_memory(root: str, python: str | None) -> tuple[float, float]:
    """(PSS, RSS) in bytes of the agent's process and the sampler's together, while the agent samples."""
    words = agent_command("samples", "--seconds", "4", "--root", root, python=python)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(3.0)
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        total = dict.fromkeys(("Pss:", "Rss:"), 0.0)
        for pid in [str(process.pid), *found.stdout.split()]:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, size = line.split()[:2]
                if name in total:
                    total[name] += 1024.0 * int(size)
        return total["Pss:"], total["Rss:"]
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--python", help="interpreter of the sampler, such as a Python 3.6; default: this one")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        powers = fake_tree(Path(folder))
        for rate in (20, 50):
            with Sampler(root=folder, board="tx2", interval_s=1 / rate, python=options.python) as sampler:
                end = time.monotonic() + options.seconds
                while time.monotonic() < end:  # the power moves, so that the recording is not one number
                    for path in powers:
                        with path.open("r+") as stream:
                            stream.write(f"{3000 + 38 * (int(time.monotonic() * 1e3) % 50):05d}")
                    time.sleep(0.2)
                samples = sampler.stop()
            size = len(gzip.compress(json.dumps(samples.to_json(), separators=(",", ":")).encode()))
            about = samples.about
            rows[rate] = {"samples": len(samples), "cpu_share": about["cpu_share"], "read_s": about["read_s"],
                          "peak_rss_bytes": about["peak_rss_bytes"], "missed": about["missed"],
                          "failed": about["failed"], "bytes_a_minute": size * 60 / about["seconds"]}
            row = rows[rate]
            print(f"{rate} Hz: {row['samples']} samples of {len(powers)} rails, {row['cpu_share']:.2%} of a core, "
                  f"{row['peak_rss_bytes'] / 1e6:.1f} MB, {row['missed']} deadlines missed, a reading takes "
                  f"{row['read_s'] * 1e6:.0f} us, {row['bytes_a_minute'] / 1e3:.0f} kB a minute", flush=True)
        pss, rss = agent_memory(folder, options.python)
        print(f"agent and sampler: {pss / 1e6:.1f} MB, shared pages once ({rss / 1e6:.1f} MB of RSS)")
    fast = rows[50]
    missed = [name for name, wrong in (("cpu", fast["cpu_share"] > MOST_CPU_SHARE),
                                       ("memory", max(fast["peak_rss_bytes"], pss) > MOST_RSS_BYTES),
                                       ("size", fast["bytes_a_minute"] > MOST_BYTES_A_MINUTE)) if wrong]
    print("all hold" if not missed else "missed: " + ", ".join(missed))
    if options.json:
        body = {"rows": rows, "agent_pss_bytes": pss, "agent_rss_bytes": rss, "missed": missed}
        options.json.write_text(json.dumps(body, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
