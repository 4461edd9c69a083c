"""Power mode and clocks of the board for the time of a measurement: journalled before they change, then put back.

The journal outlives a kill and a power loss; the next start of the agent repairs from it, whatever it was called for.
"""
import contextlib
import os
import shutil
import signal
import subprocess

from devices.support.errors import CannotMeasure, UserError, last_line, unknown
from devices.support.files import read_json, write_json
from edge_bench.agent import lock, power_mode, state
from edge_bench.agent.identity import board_of_model, boot_id, read

SCHEMA = "edgesynth.journal/1"
_PLACES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin")  # an ssh command's PATH often lacks sbin
TOOL_S = 60.0  # a tool that takes longer hangs
CLOCKS_FOLDER = "/var/lib/edgesynth"  # root's: who may write what `jetson_clocks --restore` reads may write any file


def tool(name):
    """The path of nvpmodel or jetson_clocks on this board. CannotMeasure where it is not installed."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES))
    if not found:
        raise CannotMeasure("{} is not on this machine: modes and locked clocks are for Jetson boards".format(name))
    return found


def clocks_path(root="/"):
    """The one file that jetson_clocks stores this user's clocks in and restores them from."""
    return os.path.join(root, CLOCKS_FOLDER.lstrip("/"), "clocks-{}.txt".format(os.getuid()))


def sudoers(user, root="/"):
    """The sudoers drop-in that lets `user` do without a password what `applied` does, in exactly these calls.

    Without its words, either program is as good as root: jetson_clocks writes the file that it is told to, and writes
    into whatever files another one names.
    """
    paths = {name: shutil.which(name) or shutil.which(name, path=os.pathsep.join(_PLACES)) or usual
             for name, usual in (("nvpmodel", "/usr/sbin/nvpmodel"), ("jetson_clocks", "/usr/bin/jetson_clocks"))}
    calls = ["{nvpmodel} -m [0-9]", "{nvpmodel} -m [0-9][0-9]", '{jetson_clocks} ""',  # "": no words at all
             "{jetson_clocks} --store {file}", "{jetson_clocks} --restore {file}"]
    return "{} ALL=(root) NOPASSWD: {}\n".format(user, ", ".join(call.format(file=clocks_path(root), **paths)
                                                                 for call in calls))


def run_tool(name, *words, answer=b""):
    """Run nvpmodel or jetson_clocks as root, without ever asking for a password; returns what it printed.

    Standard input is `answer` and its end: nvpmodel's question whether to reboot is answered with no. A cancel waits
    for the tool's end, so that no two of them change the board at a time. `sudoers` allows what is run here alone.
    """
    command = ([] if os.geteuid() == 0 else ["sudo", "-n"]) + [tool(name)] + [str(word) for word in words]
    with _undisturbed():
        code, text = _output(command, name, answer)
    if "reboot" in text.lower():
        raise CannotMeasure("{} {} asks for a reboot, which is never done from here: set the mode by hand, reboot, and "
                            "measure without --mode".format(name, " ".join(map(str, words))))
    if code != 0:
        refused = "password" in text or "not allowed" in text or "sudoers" in text
        raise CannotMeasure("no permission to run {}: let `edgesynth devices prepare` show what to install".format(name)
                            if refused else "{} failed: {}".format(name, last_line(text)))
    errors = [line for line in text.splitlines() if line.startswith("Error")]  # jetson_clocks ends with 0 all the same
    if errors:
        raise CannotMeasure("{} failed: {}".format(name, errors[0]))
    return text


def _output(command, name, answer):
    """(exit code, text) of a tool, in English whatever ssh passed on. One that hangs is left behind: through sudo it is
    root's, and only root can end it."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   env=dict(os.environ, LC_ALL="C"))
    except OSError as error:
        raise CannotMeasure("{} cannot be run ({})".format(command[0], error))
    try:
        output, _ = process.communicate(answer, timeout=TOOL_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(PermissionError):
            process.kill()
        raise CannotMeasure("{} hangs, it did not end within {:g} s: restart the board".format(name, TOOL_S))
    return process.returncode, output.decode("utf-8", "replace")


@contextlib.contextmanager
def _undisturbed():
    """SIGTERM (the verb cancel), SIGINT and SIGHUP wait until the block has ended."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def resolve_mode(word, root="/"):
    """The (id, name) of a mode by the names of the board's own nvpmodel.conf, its ids, or the board file's aliases."""
    modes = power_mode.known(root)
    if not modes:
        raise UserError("--mode {}: this machine has no power modes".format(word))
    wanted = {str(word).lower()}
    board = board_of_model(read(root, "/proc/device-tree/model"))
    if board:
        from devices.board import load_board
        for mode in load_board(board).modes:
            if str(word).lower() in mode.words:
                wanted.add(mode.name.lower())
    for number, name in modes:
        if name.lower() in wanted or str(number) == str(word):
            return number, name
    raise unknown("power mode of this board", word, [name for _, name in modes])


def journal_path():
    return state.place("journal.json")


@contextlib.contextmanager
def applied(mode, pin, root="/", note=lambda text: None):
    """The board in `mode` (None: the present one) with clocks pinned when `pin`, for the block; then as before.

    Needs the board lock. CannotMeasure where a change is not permitted, needs a reboot, or did not happen, and where
    what an earlier measurement left cannot be put back: its journal is the only place that knows how the board was.
    """
    repair(root, note)
    present = power_mode.present(root)
    number, name = resolve_mode(mode, root) if mode is not None else (None, None)
    change_mode = number is not None and (present or {}).get("id") != number
    if not change_mode and not pin:
        yield
        return
    _store(present, root)
    try:
        if change_mode:
            note("power mode {}".format(name))
            run_tool("nvpmodel", "-m", number)
            now = power_mode.present(root) or {}
            if now.get("id") != number:
                raise CannotMeasure("the board stayed in power mode {}, not {}".format(now.get("name"), name))
        if pin:
            note("pinning the clocks")
            run_tool("jetson_clocks")
        yield
    finally:
        try:
            _restore(root)
        except CannotMeasure as error:
            note("the former settings could not be put back ({}); the next start tries again".format(error))


def _store(present, root):
    """Write down the settings as they are, before anything changes."""
    stored = clocks_path(root)
    folder = os.path.dirname(stored)
    if os.geteuid() == 0:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    elif not os.path.isdir(folder):
        raise CannotMeasure("{} is not there, in which clocks are stored: let `edgesynth devices prepare` show what to "
                            "install".format(folder))
    before = _stamp(stored)
    run_tool("jetson_clocks", "--store", stored, answer=b"y\n")  # may it overwrite those of the last time
    if _stamp(stored) in (None, before):
        raise CannotMeasure("jetson_clocks did not store the clocks in {}: see what it says when root calls it with "
                            "--store".format(stored))
    state.make_folder(os.path.dirname(journal_path()))
    write_json(journal_path(), {"mode": (present or {}).get("id"), "clocks": stored, "boot_id": boot_id(root),
                                "root": root}, SCHEMA)


def _stamp(path):
    """What changes when a file is written; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _restore(root):
    """Put the journalled settings back and forget them. CannotMeasure, and the journal stays, where that fails."""
    with _undisturbed():
        journal = read_json(journal_path(), SCHEMA)
        present = power_mode.present(root) or {}
        if journal["mode"] is not None and present.get("id") != journal["mode"]:
            run_tool("nvpmodel", "-m", journal["mode"])
        # pinned clocks do not outlive a boot, and the stored ones belong to the boot they were stored in
        if journal["boot_id"] == boot_id(root) and os.path.exists(journal["clocks"]):
            run_tool("jetson_clocks", "--restore", journal["clocks"])
        os.unlink(journal_path())


def repair(root="/", note=lambda text: None):
    """Put back what a killed measurement left changed; needs the board lock. Returns whether there was anything.

    CannotMeasure where it cannot be put back; the next start tries again.
    """
    path = journal_path()
    if not os.path.exists(path):
        return False
    try:
        mode = read_json(path, SCHEMA)["mode"]
    except (UserError, KeyError):
        os.unlink(path)  # nothing can be restored from it, and keeping it would stop every later measurement
        note("the journal of settings was damaged and is dropped: check power mode and clocks by hand")
        return True
    note("putting back the settings that an interrupted measurement left")
    try:
        _restore(root)
    except CannotMeasure as error:
        raise CannotMeasure("the settings from before an interrupted measurement could not be put back ({}): mend that "
                            "and call again, or put back {}the clocks by hand and remove {}".format(
                                error, "" if mode is None else "power mode {} and ".format(mode), path))
    return True


def repair_left(note=lambda text: None):
    """What every start of the agent does first: `repair`, where a measurement left a journal and none runs now."""
    if not os.path.exists(journal_path()):
        return
    root = "/"
    with contextlib.suppress(UserError, KeyError):  # a damaged journal is `repair`'s to tell of
        root = read_json(journal_path(), SCHEMA)["root"]
    if lock.holder(root) is None:
        with lock.board_lock(root, "the repair of settings"):
            repair(root, note)
