"""What this machine is: board, serial number, and the software that decides what a number means.

Every function takes the root of the file system, so that a tree of files can stand in for a board.
"""
import os
import platform
import re

from devices.support.files import sha256_file
from edge_bench.agent import spawn

# Words of /proc/device-tree/model (lower case, all must be there) and the board they mean; the first row that fits
# counts. Carrier and module names both occur: "quill" and "TX2" are the same board, "lightning" is the TX2 NX.
MODELS = (
    (("tx2", "nx"), "tx2-nx"), (("lightning",), "tx2-nx"), (("tx2",), "tx2"), (("quill",), "tx2"),
    (("tx1",), "tx1"), (("xavier", "nx"), "xavier-nx"), (("agx", "orin"), "agx-orin"), (("orin", "nx"), "orin-nx"),
    (("orin", "nano"), "orin-nano"), (("jetson-agx",), "agx-xavier"), (("xavier",), "agx-xavier"), (("nano",), "nano"),
)
# trtexec's own first: two libraries may be installed side by side, of which the newer is no more likely to run
TENSORRT_PACKAGES = ("libnvinfer-bin", "libnvinfer11", "libnvinfer10", "libnvinfer8", "libnvinfer7")


def read(root, path, default=None):
    """The text of a small file under `root`, stripped (device trees end theirs with NUL), or `default`."""
    try:
        with open(os.path.join(root, path.lstrip("/")), "rb") as stream:
            return stream.read(1 << 16).decode("utf-8", "replace").strip("\0 \n\t")
    except OSError:
        return default


def read_integer(root, path):
    """The integer in a file under `root`, or None where there is none."""
    text = read(root, path)
    try:
        return int(text)
    except (TypeError, ValueError):
        return None


def board_of_model(model):
    """The name of the board file that a device-tree model belongs to, or None."""
    words = (model or "").lower()
    for needed, name in MODELS:
        if all(word in words for word in needed):
            return name
    return None


def is_jetson(root="/"):
    """Whether this is a Tegra, by its device tree or L4T's release file."""
    return bool(read(root, "/etc/nv_tegra_release")
                or "nvidia,tegra" in (read(root, "/proc/device-tree/compatible") or ""))


def boot_id(root="/"):
    """What differs between two boots of the machine, or None."""
    return read(root, "/proc/sys/kernel/random/boot_id")


def l4t_release(text):
    """"32.7.1" of the first line of /etc/nv_tegra_release ("# R32 (release), REVISION: 7.1, ..."), or None."""
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)", text or "")
    return "{}.{}".format(match.group(1), match.group(2)) if match else None


def identify(root="/"):
    """{"board", "model", "serial", "hostname", "machine", "cpu"}: what is not known is None. board: the name of
    the board file that fits; "jetson" for one that none fits, such as a later one; a host is "nvidia-gpu" or "cpu"."""
    model = read(root, "/proc/device-tree/model")
    gpus = _nvidia_gpus(root)
    board = board_of_model(model) or ("jetson" if is_jetson(root) else "nvidia-gpu" if gpus else "cpu")
    return {"board": board, "model": model or cpu_model(root),
            "serial": read(root, "/proc/device-tree/serial-number") or read(root, "/sys/class/dmi/id/product_uuid"),
            "hostname": platform.node(), "machine": platform.machine(), "cpu": cpu_model(root), "gpus": gpus}


def cpu_model(root="/"):
    """The processor's name from /proc/cpuinfo, or None."""
    for line in (read(root, "/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model"):
            return value.strip()
    return None


def _nvidia_gpus(root):
    """Names of discrete NVIDIA GPUs, from the driver's /proc files."""
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    names = []
    for entry in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        lines = (read(folder, entry + "/information") or "").splitlines()
        names += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return names


def software(root="/"):
    """{"l4t", "kernel", "python", "tensorrt", "cuda", "agent"}; versions that are not found are None.

    TensorRT's version is read from Debian's package list, so that nothing of it is loaded here. agent: SHA-256 of the
    zipapp that this runs from, None where it is an installed edgesynth.
    """
    archive = spawn.archive()
    return {"l4t": l4t_release(read(root, "/etc/nv_tegra_release")), "kernel": platform.release(),
            "python": platform.python_version(), "tensorrt": _package_version(root, TENSORRT_PACKAGES),
            "cuda": _cuda_version(root), "agent": archive and sha256_file(archive)}


def _package_version(root, names):
    """The upstream version of the first of these Debian packages that is installed, or None."""
    try:
        with open(os.path.join(root, "var/lib/dpkg/status"), encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError:
        return None
    for name in names:
        match = re.search(r"^Package: {}\n(?:.+\n)*?Version: ([0-9.]+)".format(name), text, re.MULTILINE)
        if match:
            return match.group(1)
    return None


def _cuda_version(root):
    text = read(root, "/usr/local/cuda/version.json") or read(root, "/usr/local/cuda/version.txt") or ""
    match = re.search(r'"cuda"\s*:\s*{[^}]*"version"\s*:\s*"([0-9.]+)"', text) or re.search(r"CUDA Version ([0-9.]+)",
                                                                                            text)
    return match.group(1) if match else None
