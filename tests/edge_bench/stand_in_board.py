"""A stand-in for a Jetson TX2: a tree of files given to the agent as root, and programs that log how they were called.

nvpmodel, jetson_clocks and sudo change the tree as the real ones change the board.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

NVPMODEL_CONF = """# a stand-in, by the format of L4T 32
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_1 1
< POWER_MODEL ID=1 NAME=MAXQ >
CPU_ONLINE CORE_1 0
< POWER_MODEL ID=3 NAME=MAXP_CORE_ARM >
< POWER_MODEL ID=9 NAME=NEEDS_REBOOT >
< PM_CONFIG DEFAULT=3 >
"""
PROGRAM = """#!{python}
import os, shutil, sys
root, name, words = {root!r}, {name!r}, sys.argv[1:]
with open(os.path.join(root, "calls.log"), "a") as log:
    log.write(" ".join([name] + words) + "\\n")
def clock_files():
    folders = [os.path.join(root, "sys/devices/system/cpu", cpu, "cpufreq") for cpu in ("cpu0", "cpu1")]
    files = [[os.path.join(f, "scaling_%s_freq" % w) for w in ("min", "max", "cur")] for f in folders]
    gpu = os.path.join(root, "sys/devices/17000000.gp10b/devfreq/17000000.gp10b")
    return files + [[os.path.join(gpu, w + "_freq") for w in ("min", "max", "cur")]]
def read(path):
    with open(path) as stream:
        return stream.read()
def write(path, text):
    with open(path, "w") as stream:
        stream.write(text)
{body}
"""
NVPMODEL = """
if words[:1] == ["-m"]:
    if words[1] == "9":
        print("NVPM WARN: Reboot required for changing to this power mode: 9")
        print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:")
        sys.exit(0)
    write(os.path.join(root, "var/lib/nvpmodel/status"), "pmode:%04d fmode:quiet" % int(words[1]))
elif words == ["-q"]:
    print(read(os.path.join(root, "var/lib/nvpmodel/status")))
else:
    sys.exit("nvpmodel: unknown words")
"""
JETSON_CLOCKS = """
if words[:1] == ["--store"]:
    if os.path.exists(words[1]):
        print("File %s already exists. Can I overwrite it? Y/N:" % words[1])
        if sys.stdin.readline().strip() not in ("y", "Y"):
            print("Error: file %s already exists!" % words[1])
            sys.exit(1)
        os.unlink(words[1])
    write(words[1], "".join(read(path).strip() + "\\n" for row in clock_files() for path in row))
elif words[:1] == ["--restore"]:
    values = read(words[1]).split()
    for path, value in zip([path for row in clock_files() for path in row], values):
        write(path, value + "\\n")
elif not words:
    for low, high, now in clock_files():
        write(low, read(high))
        write(now, read(high))
else:
    sys.exit("jetson_clocks: unknown words")
"""
SUDO = """
if os.path.exists(os.path.join(root, "no-sudo")):
    sys.exit("sudo: a password is required")
if words[:1] != ["-n"]:
    sys.exit("sudo: called without -n")
drop_in = os.path.join(root, "etc/sudoers.d/edgesynth")  # where a test installed one: what it lists, and no more
if os.path.exists(drop_in):
    import fnmatch
    given = " ".join([shutil.which(words[1])] + words[2:])
    listed = read(drop_in).strip().partition("NOPASSWD: ")[2].split(", ")
    if not any(given == rule[:-3] if rule.endswith(' ""') else fnmatch.fnmatchcase(given, rule) for rule in listed):
        sys.exit("sudo: a password is required")
os.execvp(words[1], words[1:])
"""


TEGRASTATS = """
import time
interval, load = 1.0, os.path.join(root, "load")  # what the running network draws stands in it, where a law says so
if "--interval" in words:
    interval = int(words[words.index("--interval") + 1]) / 1000.0
count = 0
while True:
    busy = time.time() - os.stat(load).st_mtime < 0.25
    total = (int(read(load) or {busy}) if busy else {idle}) + 38 * (count % 3 - 1)
    count += 1
    print("RAM 2000/7852MB (lfb 1000x4MB) CPU [1%%@345,off,off,1%%@345,0%%@345,2%%@345] EMC_FREQ 4%%@1600 "
          "GR3D_FREQ 0%%@624 GPU@35C thermal@36.5C VDD_SYS_GPU %d/152 VDD_SYS_SOC 687/687 VDD_4V0_WIFI 0/0 "
          "VDD_IN %d/3056 VDD_SYS_CPU 304/152 VDD_SYS_DDR 883/883" % (total // 3, total), flush=True)
    time.sleep(interval)
"""


class StandInBoard:
    """root: the tree; bin: the folder of programs to put on the PATH; home: where the agent keeps its state."""

    def __init__(self, folder: Path, python: str = sys.executable):
        self.folder, self.root, self.bin, self.home = folder, folder / "root", folder / "bin", folder / "home"
        self.python = python
        self.bin.mkdir(parents=True)
        self.home.mkdir()
        self.write("proc/device-tree/model", "NVIDIA Jetson TX2 Developer Kit\0")
        self.write("proc/device-tree/serial-number", "0421819000042\0")
        self.write("proc/sys/kernel/random/boot_id", "boot-1\n")
        self.write("etc/nv_tegra_release", "# R32 (release), REVISION: 7.1, GCID: 1, BOARD: t186ref, EABI: aarch64\n")
        self.write("etc/nvpmodel.conf", NVPMODEL_CONF)
        self.write("var/lib/nvpmodel/status", "pmode:0003 fmode:quiet")
        self.write("var/lib/dpkg/status", "Package: libnvinfer8\nStatus: install ok installed\n"
                                          "Version: 8.2.1-1+cuda10.2\n\n")
        for cpu in ("cpu0", "cpu1"):
            for word, value in (("min", 345600), ("max", 2035200), ("cur", 1113600)):
                self.write(f"sys/devices/system/cpu/{cpu}/cpufreq/scaling_{word}_freq", f"{value}\n")
        for word, value in (("min", 114750000), ("max", 1300500000), ("cur", 114750000)):
            self.write(f"sys/devices/17000000.gp10b/devfreq/17000000.gp10b/{word}_freq", f"{value}\n")
        for number, (name, value) in enumerate({"GPU-therm": 38500, "PMIC-Die": 100000, "dead": -256000}.items()):
            self.write(f"sys/class/thermal/thermal_zone{number}/type", name + "\n")
            self.write(f"sys/class/thermal/thermal_zone{number}/temp", f"{value}\n")
        self.write("sys/devices/pwm-fan/target_pwm", "80\n")
        self.write("load", "")
        (self.root / "run/lock").mkdir(parents=True)
        (self.root / "var/lib/edgesynth").mkdir()  # as `devices prepare` has it made
        for name, body in (("nvpmodel", NVPMODEL), ("jetson_clocks", JETSON_CLOCKS), ("sudo", SUDO)):
            self.program(name, PROGRAM.format(python=python, root=str(self.root), name=name, body=body))

    def write(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def program(self, name: str, text: str) -> None:
        """A program on the board's PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    def add_tegrastats(self, idle_mw: int = 2500, busy_mw: int = 6000) -> None:
        """A tegrastats whose VDD_IN follows the load that the TensorRT double tells of through $LOAD_FILE."""
        body = TEGRASTATS.replace("{busy}", str(busy_mw)).replace("{idle}", str(idle_mw))
        text = PROGRAM.format(python=self.python, root=str(self.root), name="tegrastats", body=body)
        self.program("tegrastats", text)
        place = self.root / "usr/bin"
        place.mkdir(parents=True, exist_ok=True)
        (place / "tegrastats").symlink_to(self.bin / "tegrastats")

    def restart(self) -> None:
        """What a reboot does to the files: another boot, clocks as the mode leaves them; the mode itself is kept."""
        self.write("proc/sys/kernel/random/boot_id", f"{self.read('proc/sys/kernel/random/boot_id').strip()}'\n")
        self.write("sys/devices/17000000.gp10b/devfreq/17000000.gp10b/min_freq", "114750000\n")

    @property
    def calls(self) -> list[str]:
        """How the programs were called, in order."""
        log = self.root / "calls.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def mode(self) -> str:
        return self.read("var/lib/nvpmodel/status").split()[0]

    @property
    def locked(self) -> bool:
        folder = "sys/devices/17000000.gp10b/devfreq/17000000.gp10b/"
        return self.read(folder + "min_freq") == self.read(folder + "max_freq")

    def environment(self) -> dict[str, str]:
        """The environment of the agent on this board."""
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.home),
                "XDG_STATE_HOME": str(self.home / "state"),
                "LOAD_FILE": str(self.root / "load"), "OMP_NUM_THREADS": "1"}

    def enter(self, monkeypatch) -> None:
        """Let this very process be on the board."""
        for name, value in self.environment().items():
            monkeypatch.setenv(name, value)
