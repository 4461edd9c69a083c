"""Power modes as the board itself names them: /etc/nvpmodel.conf and nvpmodel's status file."""
import re

from edge_bench.agent.identity import read

_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_DEFAULT = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>")


def known(root="/"):
    """[(id, name), ...] of the board's own nvpmodel.conf; [] where there is none."""
    return [(int(number), name) for number, name in _MODEL.findall(read(root, "/etc/nvpmodel.conf") or "")]


def present(root="/"):
    """{"id", "name"} of the mode the board is in, or None for a machine without power modes."""
    modes = dict(known(root))
    if not modes:
        return None
    match = re.search(r"pmode:(\d+)", read(root, "/var/lib/nvpmodel/status") or "")
    if not match:
        match = _DEFAULT.search(read(root, "/etc/nvpmodel.conf") or "")
    number = int(match.group(1)) if match else None
    return {"id": number, "name": modes.get(number)}
