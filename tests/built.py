"""The wheel of this very tree, and the installed packages without it, for tests of what a user would install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("devices", "edge_bench", "export", "synth")


def tracked() -> list[str]:
    """What git knows and is there, less what is ignored; the whole tree where there is no git."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else []
    names = names or [str(path.relative_to(ROOT)) for name in (*PACKAGES, "*.*", "LICENSE")
                      for path in ROOT.glob(f"{name}/**/*" if name in PACKAGES else name)]
    return [name for name in names if (ROOT / name).is_file() and "__pycache__" not in name]


def build_wheel(folder: Path) -> Path:
    """Build the wheel into a folder, from a copy of what is tracked."""
    for name in tracked():
        if not name.startswith("tests/"):
            place = folder / "tree" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)
    done = subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder,
                           folder / "tree"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def dependencies(folder: Path) -> Path:
    """A folder for PYTHONPATH with everything that is installed here but edgesynth and the installers."""
    ours = ("edgesynth", "__editable__", "pip", "setuptools", "_distutils", "distutils")
    folder.mkdir(parents=True)
    for place in (path for path in map(Path, sys.path) if path.name == "site-packages" and path.is_dir()):
        for entry in place.iterdir():
            if not entry.name.startswith(ours) and entry.suffix != ".pth" and not (folder / entry.name).exists():
                (folder / entry.name).symlink_to(entry)
    return folder
