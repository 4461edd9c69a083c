"""What a run has learnt so far, line by line: a crash costs at most the line that was being written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devices.support import files
from devices.support.errors import UserError


class Journal:
    """An append-only mapping from keys to values, both JSON, in a file of JSON lines.

    Values come back as JSON gives them (lists for tuples), whether they were just written or read from disk, so that a
    resumed run sees what an uncut one saw. A line that a crash or a bad disk spoilt is passed over: what it held is
    computed again.
    """

    def __init__(self, path: str | os.PathLike[str], schema: str):
        self.path = Path(path)
        self.schema = schema
        self._values: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        lines = files.read_lines(self.path)
        head = lines[0] if lines and isinstance(lines[0], dict) else {}
        if "schema" in head and head["schema"] != schema:
            raise UserError(
                f"{self.path}: expected {schema}, found {head['schema']}; "
                "it was written by another version of edgesynth: use that one, or start a new run"
            )
        for line in lines:
            if isinstance(line, dict) and line.get("check") == _check(line.get("key"), line.get("value")):
                self._keep(line["key"], line["value"])
        if "schema" not in head and not self._values:
            files.write_text(self.path, files.canonical_json({"schema": schema}) + "\n")

    def append(self, key: Any, value: Any) -> Any:
        """Record a value durably and return it as JSON gives it back. A key is recorded once."""
        name = files.canonical_json(key)
        if name in self._values:
            raise ValueError(f"{name} is in {self.path} already")
        return self.replace(key, value)

    def replace(self, key: Any, value: Any) -> Any:
        """As `append`, of a key that may be there: the last value counts."""
        # through the same text as a later reading, which sorts the keys of objects as text
        key, value = _through_json(key), _through_json(value)
        files.append_line(self.path, {"key": key, "value": value, "check": _check(key, value)})
        return self._keep(key, value)

    def _keep(self, key: Any, value: Any) -> Any:
        name = files.canonical_json(key)
        self._keys[name], self._values[name] = key, value
        return value

    def __contains__(self, key: Any) -> bool:
        return files.canonical_json(key) in self._values

    def __getitem__(self, key: Any) -> Any:
        return self._values[files.canonical_json(key)]

    def get(self, key: Any) -> Any:
        """The value of `key`, None when there is none."""
        return self._values.get(files.canonical_json(key))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys.values())

    def items(self) -> Iterator[tuple[Any, Any]]:
        """(key, value) in the order of recording."""
        return zip(self._keys.values(), self._values.values(), strict=True)


def _check(key: Any, value: Any) -> str:
    return files.sha256_bytes(files.canonical_json([key, value]).encode())[:12]


def _through_json(value: Any) -> Any:
    return json.loads(files.canonical_json(value))
