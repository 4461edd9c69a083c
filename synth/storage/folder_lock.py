"""One process at a time in a folder."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from devices.support import files
from devices.support.errors import UserError

LOCK_NAME = ".lock"
_held: set[Path] = set()  # by this process: record locks do not tell its own threads apart


class FolderLock:
    """A lock that the kernel lets go when its process ends, however it ends; forked workers do not inherit it."""

    def __init__(self, folder: Path):
        self.path = folder.resolve() / LOCK_NAME
        if self.path in _held:
            raise UserError(f"{folder}: this process is working in the folder already")
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise files.explain(error, folder) from error
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._handle, 32).decode(errors="replace").strip()
            os.close(self._handle)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise files.explain(error, folder) from error
            who = f"process {holder}" if holder else "another process"
            raise UserError(f"{folder}: {who} is working in this folder: wait for it or stop it first") from error
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{os.getpid()}\n".encode())
        _held.add(self.path)

    def release(self) -> None:
        """Let go; again is harmless."""
        if self.path in _held:
            _held.remove(self.path)
            os.close(self._handle)
