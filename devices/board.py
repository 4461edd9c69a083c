"""Boards as data: one JSON file a board, read from the package or from a file of one's own.

Python 3.6 and standard library only: the agent takes this module and boards/*.json to the board in its zipapp.
"""
import json
import os
import pkgutil
import re
import zipfile

from devices.support.errors import UserError, unknown
from devices.support.files import read_json

SCHEMA = "edgesynth.board/1"
PRECISIONS = ("fp32", "fp16", "int8")


def value_of(entry, default=None):
    """The bare value of a sourced entry {"value": ..., "source": ...}; an entry without a value is itself."""
    if entry is None:
        return default
    return entry["value"] if isinstance(entry, dict) and "value" in entry else entry


class Mode:
    """A power mode: `name` and `id` as nvpmodel knows it, `aliases` a person may use, clocks in MHz, cap in W.

    What the sources do not give is None (gpu_mhz, emc_mhz, watts, id).
    """

    def __init__(self, data):
        self.data = data
        self.name = data["name"]
        self.id = data.get("id")
        self.aliases = tuple(data.get("aliases", ()))
        self.gpu_mhz = data.get("gpu_mhz")
        self.emc_mhz = data.get("emc_mhz")
        self.watts = data.get("watts")

    @property
    def words(self):
        """Every word that names this mode, in lower case."""
        return {word.lower() for word in (self.name, *self.aliases)}

    def __repr__(self):
        return f"Mode({self.name!r})"


class Board:
    """One board file. `data` is its JSON; what is read from it often has a name here."""

    def __init__(self, data, path=None):
        self.data = data
        self.path = path  # None for a board that comes with edgesynth
        self.name = data["name"]
        self.title = data["title"]
        self.kind = data["kind"]  # "jetson" or "host"
        self.modes = [Mode(mode) for mode in data.get("modes", ())]
        self.rails = data.get("rails", [])
        self.software = data.get("software", [])

    @property
    def base_name(self):
        """The name of the board that it is: of a calibrated one, that of the board that it was made of."""
        return self.data.get("calibrated_from", self.name)

    def mode(self, word):
        """The power mode that a name, alias or id stands for; UserError when the board does not have it."""
        for mode in self.modes:
            if str(word).lower() in mode.words or str(word) == str(mode.id):
                return mode
        if not self.modes:
            raise UserError(f"{self.title} has no power modes: write {self.name} alone")
        raise unknown(f"power mode of {self.name}", word, {m.name.lower() for m in self.modes})

    @property
    def default_mode(self):
        """The mode that the bare board name stands for; None when the board has no modes."""
        return self.mode(value_of(self.data["default_mode"])) if self.modes else None

    def total_rails(self, scope="module"):
        """Names of the rails whose sum is the power of `scope` ("module" or "board"); [] where no rail gives it."""
        return list(value_of(self.data.get("total", {}).get(scope), []))

    def require_precision(self, precision):
        """`precision` in lower case; UserError for one that is unknown or that the board does not really have."""
        word = str(precision).lower()
        entries = self.data["precisions"]
        if word not in entries:
            raise unknown(f"precision of {self.name}", precision, [k for k in entries if self.has(k)])
        if not self.has(word):
            usable = " or ".join(p for p in PRECISIONS if self.has(p))
            raise UserError(f"{self.title} has no {word.upper()}: {entries[word]['reason']}; use {usable}")
        return word

    def has(self, precision):
        """Whether the board computes in `precision` natively."""
        return bool(value_of(self.data["precisions"].get(precision, {"value": False})))

    def newest_software(self):
        """The newest software row of this board ({} for hosts): jetpack, l4t, tensorrt, cuda, python, max_opset."""
        return self.software[-1] if self.software else {}

    def max_opset(self, tensorrt):
        """The highest opset that a TensorRT of this board is known to read, by its version as in "8.2.1.8"; None where
        no row of the board's software tells."""
        release = re.findall(r"\d+", tensorrt or "")[:2]
        rows = [row for row in self.software if re.findall(r"\d+", row["tensorrt"])[:2] == release]
        return rows[-1].get("max_opset") if rows else None

    def __repr__(self):
        return f"Board({self.name!r})"


class Target:
    """A board in a power mode; `mode` is None for a board without modes."""

    def __init__(self, board, mode):
        self.board = board
        self.mode = mode

    def __str__(self):
        return self.board.name if self.mode is None else f"{self.board.name}:{self.mode.name.lower()}"

    def __repr__(self):
        return f"Target({str(self)!r})"

    def __eq__(self, other):
        return isinstance(other, Target) and str(self) == str(other)

    def __hash__(self):
        return hash(str(self))


def known_boards():
    """Names of the boards that come with edgesynth, sorted; works in a folder and in a zipapp."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "boards")
    if os.path.isdir(folder):
        files = os.listdir(folder)
    else:
        with zipfile.ZipFile(getattr(__spec__, "loader").archive) as packed:  # noqa: B009 (mypy knows no zip loader)
            files = [name.rpartition("/")[2] for name in packed.namelist() if name.startswith("devices/boards/")]
    return sorted(name[:-len(".json")] for name in files if name.endswith(".json"))


def load_board(name):
    """The board of that name, or of a board file of one's own (a path that ends in .json)."""
    if str(name).endswith(".json"):
        path = os.fspath(name)
        data = read_json(path, SCHEMA)
        missing = [key for key in ("name", "title", "kind", "precisions") if key not in data]
        if missing:
            raise UserError(f"{path}: the board file lacks {', '.join(missing)}")
        return Board(data, path)
    if name not in known_boards():
        raise unknown("board", name, known_boards())
    data = pkgutil.get_data("devices", f"boards/{name}.json") or b""
    return Board(json.loads(data.decode("utf-8")))


def absolute_target(text):
    """The same target from wherever one stands: a board's file of one's own by its absolute path."""
    place, colon, mode = _split(str(text))
    return (os.path.abspath(place) if place.endswith(".json") else place) + (colon and ":") + mode


def target_file(text):
    """The path of the board's file that a target names, or None for a board that is known by name."""
    place = _split(str(text))[0]
    return place if place.endswith(".json") else None


def _split(text):
    """(board or path, the colon where there is one, mode)."""
    place, colon, mode = text.partition(".json:") if ".json:" in text else text.partition(":")
    return (place + ".json" if colon == ".json:" else place), colon, mode


def resolve_target(text):
    """The Target of "board", "board:mode" or "path/board.json:mode"; UserError for what is unknown."""
    place, colon, mode = _split(str(text))
    if not place or (colon and not mode):
        raise UserError(f"'{text}' names no target: write board or board:mode, such as tx2:maxq")
    if not place.endswith(".json") and place not in known_boards():
        raise unknown("target", place, known_boards())
    board = load_board(place)
    return Target(board, board.mode(mode) if mode else board.default_mode)
