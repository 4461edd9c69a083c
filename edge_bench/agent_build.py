"""The agent as one zipapp, the same bytes every time: all that a board needs."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import devices
import edge_bench
from devices.support.files import write_bytes

__all__ = ["agent_bytes", "agent_files", "agent_hash", "write_agent"]

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = """import sys
from edge_bench.agent.main import main
sys.exit(main())
"""
_EPOCH = (2018, 9, 14, 0, 0, 0)  # of every entry: the bytes depend on the sources alone


def agent_files() -> dict[str, bytes]:
    """{path in the archive: content} of everything that the agent imports or reads."""
    bench, boards = Path(edge_bench.__file__).parent, Path(devices.__file__).parent
    sources = [bench / "__init__.py", *(bench / "agent").rglob("*.py"), boards / "__init__.py", boards / "board.py",
               *(boards / "boards").glob("*.json"),
               *(path for path in (boards / "support").glob("*.py") if path.name != "factories.py")]
    rooms = {bench: "edge_bench", boards: "devices"}
    files = {"__main__.py": MAIN.encode()}
    for path in sources:
        room = next(folder for folder in rooms if folder in path.parents)
        files[f"{rooms[room]}/{path.relative_to(room).as_posix()}"] = path.read_bytes()
    return files


def agent_bytes() -> bytes:
    """The zipapp: runs with `python3 edge_bench.pyz` under Python 3.6 or newer, standard library only."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "a", compression=zipfile.ZIP_STORED) as archive:
        # stored, not deflated: zlib's output differs between versions, and the bytes are the agent's identity
        for name, content in sorted(agent_files().items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr, entry.create_system = 0o644 << 16, 3
            archive.writestr(entry, content)
    return buffer.getvalue()


def agent_hash() -> str:
    """The SHA-256 of the zipapp, which is its version."""
    return hashlib.sha256(agent_bytes()).hexdigest()


def write_agent(path: str | os.PathLike[str]) -> str:
    """Write the zipapp, executable, and return its SHA-256."""
    data = agent_bytes()
    write_bytes(path, data)
    os.chmod(path, 0o755)
    return hashlib.sha256(data).hexdigest()
