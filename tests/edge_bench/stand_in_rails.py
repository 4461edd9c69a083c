"""INA3221 rails for a stand-in board, in the trees of both drivers, whose power follows the load."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# rail: share of the total, and the chip it hangs on
TX2 = {"VDD_SYS_GPU": (0.40, "0-0040"), "VDD_SYS_SOC": (0.12, "0-0040"), "VDD_4V0_WIFI": (0.0, "0-0040"),
       "VDD_IN": (1.0, "0-0041"), "VDD_SYS_CPU": (0.10, "0-0041"), "VDD_SYS_DDR": (0.18, "0-0041"),
       "VDD_MUX": (0.25, "0-0042")}
ORIN_NX = {"VDD_IN": (1.0, "1-0040"), "VDD_CPU_GPU_CV": (0.5, "1-0040"), "VDD_SOC": (0.3, "1-0040")}
SUPPLY_MV, STEP_MA = 19000, 2  # a step of 38 mW
LOAD_SEEN_S = 0.25             # so long after its last sign of life a load counts as there


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


def _files(root: Path, rails: dict, driver: str) -> dict[Path, tuple[float, str]]:
    """Make the tree; returns {file: (share of the total, "mW" or "mA")} of what moves."""
    moving: dict[Path, tuple[float, str]] = {}
    used: dict[str, int] = {}
    for name, (share, chip) in rails.items():
        channel = used[chip] = used.get(chip, -1) + 1
        number = sorted({place for _, place in rails.values()}).index(chip) + 1
        if driver == "iio":
            folder = root / f"sys/bus/i2c/drivers/ina3221x/{chip}/iio:device{number}"
            _put(folder / f"rail_name_{channel}", name)
            moving[_put(folder / f"in_power{channel}_input", "000000")] = (share, "mW")
        else:
            folder = root / f"sys/bus/i2c/drivers/ina3221/{chip}/hwmon/hwmon{number + 2}"
            _put(folder / "name", "ina3221")
            _put(folder / f"in{channel + 1}_label", name)
            _put(folder / f"in{channel + 1}_input", str(SUPPLY_MV))
            moving[_put(folder / f"curr{channel + 1}_input", "000000")] = (share, "mA")
    return moving


@contextlib.contextmanager
def rails_following(root: Path, load: Path, rails: dict | None = None, driver: str = "iio", idle_mw: int = 2500,
                    busy_mw: int = 6000) -> Iterator[None]:
    """While the block runs, the rails below `root` show `busy_mw` when `load` was touched of late, else `idle_mw`; what
    stands in `load`, in milliwatts, goes before `busy_mw`.

    The files are written in place, by whole lines of one length, as a reader of sysfs sees them.
    """
    moving, done = _files(root, rails or TX2, driver), threading.Event()

    def follow() -> None:
        count = 0
        with contextlib.ExitStack() as stack:
            handles = {stack.enter_context(path.open("r+b", buffering=0)): kind for path, kind in moving.items()}
            while not done.is_set():
                count += 1
                busy = load.exists() and time.time() - load.stat().st_mtime < LOAD_SEEN_S
                power_mw = (int(load.read_text() or busy_mw) if busy else idle_mw) + 38 * (count % 3 - 1)
                for handle, (share, unit) in handles.items():
                    current_ma = round(share * power_mw * 1000 / SUPPLY_MV / STEP_MA) * STEP_MA
                    value = current_ma if unit == "mA" else current_ma * SUPPLY_MV // 1000
                    handle.seek(0)
                    handle.write(f"{value:06d}\n".encode())
                done.wait(0.02)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
