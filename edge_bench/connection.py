"""A board over the system's ssh: the user's own configuration, no password ever, one shared connection.

The words of every remote command are constants of this module (and the agent's hash); all else travels on standard
input. The agent is sent once per version.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from devices.support.errors import CannotMeasure, UserError, last_line
from edge_bench.agent import protocol
from edge_bench.agent_build import agent_bytes, agent_hash

__all__ = ["Connection", "ConnectionLost"]

FOLDER = ".cache/edgesynth"
LOST = 255        # ssh's own exit code: the connection failed, whatever the command would have said
NOT_FOUND = 127   # the shell's: there is no such program
KILLED = 128      # the shell's, plus the number of the signal
ENDED_FROM_OUTSIDE = (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM)  # no fault of the agent: another call may do

# what ssh says (lower case): the remedy. The first row that fits counts.
REMEDIES = (
    ("remote host identification has changed", "its host key has changed: find out why, then remove the old one with "
                                               "ssh-keygen -R"),
    ("host key verification failed", "its host key is not known: connect once by hand with ssh and check the key"),
    ("permission denied", "it does not let you in: put your public key there with ssh-copy-id"),
    ("too many authentication failures", "it does not let you in: name the right key in ~/.ssh/config"),
    ("could not resolve hostname", "there is no such host: check the name"),
    ("bad configuration option", "ssh does not understand its configuration: check ~/.ssh/config"),
)
# the same, for what a board that is restarting says too: a job that was followed there may be taken up again
PASSING = (
    ("connection refused", "it refuses connections: is its ssh server running?"),
    ("no route to host", "it cannot be reached: is it on, and on this network?"),
    ("timed out", "it does not answer: is it on, and on this network?"),
)


class ConnectionLost(CannotMeasure):
    """The connection ended before the answer; what runs on the board goes on."""


class Connection:
    """Calls the agent on one host. `close` ends the shared connection early; it ends by itself after a minute."""

    def __init__(self, host: str):
        if not host or host.startswith("-") or any(character.isspace() for character in host):
            raise UserError(f"--host '{host}' is no ssh destination: write USER@BOARD")
        if shutil.which("ssh") is None:
            raise CannotMeasure("there is no ssh on this machine: install OpenSSH's client")
        self.host = host
        self.agent = f"{FOLDER}/agent-{agent_hash()[:16]}.pyz"
        temporary = tempfile.gettempdir()
        # a socket's path may have 107 characters, and ssh adds 58 to the folder's
        folder = Path(temporary if len(temporary) <= 30 else "/tmp") / f"edgesynth-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
            raise CannotMeasure(f"{folder} is open to others: remove it, or set TMPDIR to a folder of yours")
        self.options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=10",
                        "-o", "ServerAliveCountMax=3", "-o", "ControlMaster=auto", "-o", "ControlPersist=60",
                        "-o", f"ControlPath={folder}/%C"]

    @contextlib.contextmanager
    def _process(self, command: str, stdin: int | IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """ssh running a command, and the file its standard error goes to (a pipe could be held by the shared
        connection). In a session of its own: Ctrl-C here must not cut the line that `cancel` goes over."""
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(["ssh", *self.options, "--", self.host, command], stdin=stdin,
                                       stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
            try:
                yield process, errors
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                for stream in (process.stdin, process.stdout):
                    if stream is not None:
                        with contextlib.suppress(OSError):
                            stream.close()

    def _explain(self, code: int, errors: IO[bytes]) -> CannotMeasure:
        """What a failed command means, with the remedy."""
        errors.seek(0)
        text = errors.read().decode("utf-8", "replace").strip()
        if code == LOST:
            for rows, kind in ((REMEDIES, CannotMeasure), (PASSING, ConnectionLost)):
                for words, remedy in rows:
                    if words in text.lower():
                        return kind(f"{self.host}: {remedy}")
            return ConnectionLost(f"{self.host}: the connection was lost ({last_line(text).strip()})")
        if code - KILLED in ENDED_FROM_OUTSIDE:
            return ConnectionLost(f"{self.host}: the agent there was killed ({signal.Signals(code - KILLED).name})")
        if code == NOT_FOUND:
            return CannotMeasure(f"{self.host}: there is no python3: install it there")
        if "no space left" in text.lower() or "disk quota" in text.lower():
            return CannotMeasure(f"{self.host}: its disk is full: free some space there")
        if "SyntaxError" in text:
            return CannotMeasure(f"{self.host}: its python3 is too old: Python 3.6 or newer is needed")
        return CannotMeasure(f"{self.host}: the agent failed ({last_line(text).strip()})")

    def send(self, command: str, data: bytes) -> None:
        """Run a command with data on its standard input. CannotMeasure when it fails."""
        with tempfile.TemporaryFile() as source:
            source.write(data)
            source.seek(0)
            with self._process(command, source) as (process, errors):
                process.communicate()
                if process.returncode != 0:
                    raise self._explain(process.returncode, errors)

    def ensure_agent(self) -> dict[str, Any]:
        """Make sure that this version's agent is there; what it says of itself: {"protocol", "python", "sha256"}."""
        try:
            found = self.call("version", {})
            if found["sha256"] == agent_hash():
                return found
        except (ConnectionLost, UserError):
            raise
        except CannotMeasure as error:
            if "the agent failed" not in str(error):
                raise  # unreachable, no Python and the like: sending it would not help
        self.send(f"umask 077 && mkdir -p {FOLDER} && cat > {self.agent}.part && mv {self.agent}.part {self.agent}",
                  agent_bytes())
        found = self.call("version", {})
        if found["sha256"] != agent_hash():
            raise CannotMeasure(f"{self.host}: the agent arrived damaged: try again")
        return found

    def install(self) -> str:
        """Leave the agent as ~/.local/bin/edgesynth there, so that `edgesynth bench` works on the board itself."""
        target = ".local/bin/edgesynth"
        self.send(f"mkdir -p .local/bin && cat > {target}.part && chmod 755 {target}.part && mv {target}.part {target}",
                  agent_bytes())
        return f"~/{target}"

    def call(self, verb: str, request: dict[str, Any], on_event: Callable[[dict[str, Any]], None] = lambda event: None,
             ) -> Any:
        """Call a verb of the agent and return its result; on_event is called with every event, the end too.

        Errors of the agent are raised here as they were there. ConnectionLost when the line broke before the end.
        """
        end = None
        with tempfile.TemporaryFile() as source:
            source.write(json.dumps(request).encode())
            source.seek(0)
            with self._process(f"python3 {self.agent} {verb} --stdin", source) as (process, errors):
                assert process.stdout is not None
                for line in iter(process.stdout.readline, b""):
                    event = protocol.parse(line.decode("utf-8", "replace"))
                    if event is None:
                        continue
                    on_event(event)
                    if event["event"] in ("result", "error", "cancelled"):
                        end = event
                code = process.wait()
                if end is None:
                    raise self._explain(code, errors) if code else ConnectionLost(
                        f"{self.host}: the agent ended without an answer")
        if end["event"] == "error":
            protocol.raise_error(end)
        return end.get("result")

    def put(self, path: Path, sha256: str, folder: str | None = None) -> str:
        """Bring a file to the board unless it is there already; returns its path there."""
        header = {"name": path.name, "sha256": sha256, "bytes": path.stat().st_size, "folder": folder}
        found = self.call("put", {**header, "query": True})
        if found["present"]:
            return found["path"]
        with tempfile.TemporaryFile() as source:
            source.write(json.dumps(header).encode() + b"\n")
            with path.open("rb") as content:
                shutil.copyfileobj(content, source)
            source.seek(0)
            with self._process(f"python3 {self.agent} put --stdin", source) as (process, errors):
                output, _ = process.communicate()
                for line in output.decode("utf-8", "replace").splitlines():
                    event = protocol.parse(line)
                    if event and event["event"] == "error":
                        protocol.raise_error(event)
                    if event and event["event"] == "result":
                        return event["result"]["path"]
                raise self._explain(process.returncode, errors)

    def close(self) -> None:
        """End the shared connection."""
        subprocess.run(["ssh", *self.options, "-O", "exit", "--", self.host], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
