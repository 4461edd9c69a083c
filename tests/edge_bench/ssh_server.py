"""A real OpenSSH server on loopback with keys of its own; behind it a stand-in board, entered as an ordinary user.

Root cannot enter as root here: the user `edgesynth-board` is used where it exists (.ci/run makes it), so that
permissions and sudo are those of an ordinary user; everybody else enters as themselves.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from agent_on_board import HERE, oldest_python
from stand_in_board import StandInBoard

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
USER = "edgesynth-board"


def why_not() -> str | None:
    """Why there can be no server here, or None."""
    if SSHD is None:
        return "OpenSSH's server is not installed (apt-get install openssh-server)"
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "OpenSSH's client is not installed"
    if os.geteuid() == 0 and not _exists(USER):
        return f"running as root without the ordinary user {USER} (useradd -m -s /bin/sh -p '*' {USER})"
    return None


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class SshBoard:
    """folder: everything of it; board: the stand-in; bin: put first on the PATH, its `ssh` knows the host `board`.

    environment: further variables of the board, in which {root} and {home} stand for its folders.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self.more = environment or {}
        self.user = USER if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.folder = Path(tempfile.mkdtemp(prefix="edgesynth-ssh-", dir="/tmp"))
        self.port = _free_port()
        self.log = self.folder / "sshd.log"
        self.python = self._python()
        self.board = StandInBoard(self.folder / "board", self.python)
        (self.board.bin / "python3").symlink_to(self.python)
        for name in ("doubles", "doubles_pycuda", "data"):
            shutil.copytree(HERE / name, self.board.home / name)
        self.client = self.folder / "client"
        self.client.mkdir()
        for name in ("host_key", "user_key", "stranger_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.client / name], check=True)
        self.hand_over()
        self._configure()
        self.start()

    def _python(self) -> str:
        """A Python that the ordinary user can run: the oldest here, copied where its own place is closed to them."""
        python = Path(oldest_python()).resolve()
        if os.geteuid() != 0 or not str(python).startswith("/root/"):
            return str(python)
        home = python.parent.parent
        target = self.folder / "python"
        names = shutil.ignore_patterns("test", "site-packages", "__pycache__", "config-3*", "*.a", "idlelib")
        (target / "bin").mkdir(parents=True)
        shutil.copy2(python, target / "bin")
        shutil.copytree(home / "lib", target / "lib", ignore=names, symlinks=True)
        return str(target / "bin" / python.name)

    def hand_over(self) -> None:
        """The board belongs to the user who enters it."""
        os.chmod(self.folder, 0o755)
        if os.geteuid() == 0:
            for folder, _, names in os.walk(self.board.folder):
                for path in [folder, *(os.path.join(folder, name) for name in names)]:
                    if not os.path.islink(path):
                        shutil.chown(path, self.user)

    def _configure(self) -> None:
        (self.folder / "authorized_keys").write_text((self.client / "user_key.pub").read_text())
        environment = " ".join([
            f'PATH="{self.board.bin}:/usr/bin:/bin"', f'HOME="{self.board.home}"', 'TENSORRT_DOUBLE="8.2.1"',
            f'PYTHONPATH="{self.board.home}/doubles:{self.board.home}/doubles_pycuda"',
            f'LD_LIBRARY_PATH="{self.folder}/python/lib"',
            f'TENSORRT_DOUBLE_TABLE="{self.board.home}/data/tensorrt_api_by_version.csv"',
            *(f'{name}="{value.format(root=self.board.root, home=self.board.home)}"'
              for name, value in self.more.items())])
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.client}/host_key\n"
            f"PidFile {self.folder}/sshd.pid\nAuthorizedKeysFile {self.folder}/authorized_keys\nUsePAM no\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"SetEnv {environment}\nForceCommand cd \"$HOME\" && exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n")
        os.chmod(self.client / "host_key", 0o600)
        (self.client / "known_hosts").write_text(
            f"[127.0.0.1]:{self.port} " + (self.client / "host_key.pub").read_text())
        self.write_client_config()
        bin_folder = self.folder / "client-bin"
        bin_folder.mkdir()
        ssh = bin_folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.client}/config "$@"\n')
        ssh.chmod(0o755)
        self.bin = bin_folder

    def write_client_config(self, key: str = "user_key", known_hosts: str = "known_hosts") -> None:
        """What the user's ~/.ssh/config is elsewhere."""
        (self.client / "config").write_text(
            f"Host board\n HostName 127.0.0.1\n Port {self.port}\n User {self.user}\n"
            f" IdentityFile {self.client}/{key}\n IdentitiesOnly yes\n UserKnownHostsFile {self.client}/{known_hosts}\n"
            " GlobalKnownHostsFile /dev/null\n"
            "Host nowhere\n HostName 127.0.0.1\n Port 1\n"
            "Host nameless\n HostName name.invalid\n")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with self.log.open("ab") as log:
            self.server = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("sshd does not start: " + self.log.read_text())

    def sessions(self) -> list[int]:
        """Processes of the connections that this server holds: each a monitor, and a child that has the socket."""
        done = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in done.stdout.splitlines()]
        found = [self.server.pid]
        for parent in found:
            found += [int(pid) for pid, above, name in rows if int(above) == parent and name.startswith("sshd")]
        return found[1:]

    def cut(self) -> None:
        """Cut every connection, as a pulled cable does; the server goes on."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def agents(self, verb: str) -> list[int]:
        """Processes of this board's agent that were called with this verb; those of the trials are `_trial`.

        Others may run agents on this machine: this board's have its home.
        """
        home, found = f"HOME={self.board.home}".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                words = (process / "cmdline").read_bytes().split(b"\0")
                if verb.encode() in words and any(word.endswith(b".pyz") for word in words) \
                        and b"python" in words[0] and home in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found

    def kill_agents(self, *verbs: str) -> None:
        """End the board's agent processes with -9."""
        for pid in [pid for verb in verbs for pid in self.agents(verb)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def restart_board(self, down_s: float = 1.0) -> None:
        """What a power loss does: all dies at once, the ssh server is away for a while, clocks are free again."""
        self.server.kill()
        self.server.wait()
        self.cut()
        self.kill_agents("_job", "_trial", "_sample", "bench", "jobs")
        self.board.restart()
        time.sleep(down_s)
        self.start()

    def close(self) -> None:
        self.cut()
        self.server.kill()
        self.server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
