"""tegrastats as a power source, and its logs. Its lines are time-stamped when they arrive.

Our own child process is ended by its pid; `tegrastats --stop` would end anyone's.
"""
import codecs
import collections
import os
import queue
import shutil
import subprocess
import threading
import time
from typing import Optional

from devices.support.errors import CannotMeasure, UserError
from devices.support.files import explain
from edge_bench.agent.power.source import Absent, PowerSource, ReadFailed, Sample
from edge_bench.agent.power.tegrastats_line import is_tegrastats, parse_line
from edge_bench.agent.power.totals import facts_of

INTERVAL_MS = 100   # less only reads the filtered sensor again, and loads a core
FIRST_LINE_S = 5.0
SEARCH_BYTES = 1 << 20  # a log must show a line of tegrastats within this much
LONGEST_LINE = 1 << 16


class Tegrastats(PowerSource):
    """Power from a child process `tegrastats --interval 100`. `read` waits for the next line."""

    name = "tegrastats"
    paced = True
    refresh_s = INTERVAL_MS / 1000.0

    def __init__(self, root="/", board=None, clock=time.monotonic, interval_ms=INTERVAL_MS):
        super(Tegrastats, self).__init__(root, board, clock)
        self.refresh_s = interval_ms / 1000.0
        self._interval_ms = interval_ms
        self._process: Optional[subprocess.Popen] = None
        self._lines: queue.Queue = queue.Queue()

    def open(self):
        self.where = find_program(self.root)
        try:
            self._process = subprocess.Popen(
                [self.where, "--interval", str(self._interval_ms)], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise Absent("{} cannot be started ({})".format(self.where, error.strerror))
        reader = threading.Thread(target=self._follow, args=(self._process.stdout,))
        reader.daemon = True
        reader.start()
        try:
            first = self._next(FIRST_LINE_S)
        except ReadFailed as error:
            self.close()
            raise CannotMeasure("{} starts, but {}".format(self.where, error))
        if first.total_mw is None:
            self.close()
            raise CannotMeasure("{} shows no power: {}; some releases show the rails to root alone".format(
                self.where, first.reason))
        self.rails, self.totals = sorted(first.rails), collections.OrderedDict(module=first.total)
        facts = facts_of(first.total, self.board)
        self.quantum_mw, self.filter_s = facts.quantum_mw, facts.filter_s

    def _follow(self, stream):
        """Put each line with its time of arrival; None at the end."""
        for line in iter(stream.readline, b""):
            self._lines.put((self.clock(), line))
        stream.close()
        self._lines.put(None)

    def _next(self, patience_s):
        try:
            item = self._lines.get(timeout=patience_s)
        except queue.Empty:
            raise ReadFailed("gives no line within {:g} s".format(patience_s))
        if item is None:
            self._lines.put(None)
            raise ReadFailed("it ended (exit code {})".format(self._process.wait() if self._process else "unknown"))
        self._arrived = item[0]
        return parse_line(item[1].decode("ascii", "replace"), self.board)

    def read(self):
        line = self._next(max(1.0, 10 * self.refresh_s))
        if line.total_mw is None:
            raise ReadFailed(line.reason)
        return Sample(self._arrived, line.rails, line.total_mw, None)

    def close(self):
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def find_program(root="/"):
    """Path of tegrastats: below `root`, on the PATH, or in a home folder, where R28 has it. Absent if nowhere."""
    places = [os.path.join(root, "usr/bin/tegrastats")]
    if os.path.realpath(root) == "/":
        places += [shutil.which("tegrastats") or "", os.path.expanduser("~/tegrastats"),
                   "/home/nvidia/tegrastats", "/home/ubuntu/tegrastats"]
    for place in places:
        if os.path.isfile(place):
            if not os.access(place, os.X_OK):
                raise Absent("{} may not be run by this user".format(place))
            return place
    raise Absent("there is no {}".format(places[0]))


def read_log(path, board=None):
    """Each line of a tegrastats log as a dict: line (number from 1), time (as the line begins, or None), rails
    ({name: mW}), total_mw and total (the rails it is the sum of), or reason why there is no power.

    A generator that holds one line at a time. Empty lines are passed over. A byte order mark says how the file is
    encoded (PowerShell writes UTF-16). UserError when the file cannot be read or shows no line of tegrastats within
    its first megabyte.
    """
    waiting: list = []
    seen, known = 0, False
    try:
        with open(path, "rb") as stream:
            encoding = _encoding(stream)
            for number, raw in _raw_lines(codecs.EncodedFile(stream, "ascii", encoding, "replace")
                                          if encoding.startswith("utf-16") else stream):
                seen += len(raw)
                text = raw.decode("ascii", "replace")
                known = known or is_tegrastats(text)
                if not known:
                    waiting.append((number, text))
                    if seen > SEARCH_BYTES:
                        break
                    continue
                for item in waiting:
                    yield _entry(item[0], item[1], board)
                del waiting[:]
                if text.strip():
                    yield _entry(number, text, board)
    except OSError as error:
        raise explain(error, path)
    if not known:
        raise UserError("{}: {}; record one with: tegrastats --interval 100 --logfile FILE".format(
            path, "the file is empty" if not seen else "no line of it comes from tegrastats"))


def _encoding(stream):
    """The encoding that a byte order mark at the beginning tells; the stream stands behind it then."""
    beginning = stream.peek(3)[:3]  # a pipe cannot be wound back
    for mark, name in ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
                       (codecs.BOM_UTF16_BE, "utf-16-be")):
        if beginning.startswith(mark):
            stream.read(len(mark))
            return name
    return "ascii"


def _raw_lines(stream):
    """(number, bytes) of each line; of an overlong one only the beginning, and its end is passed over."""
    number = 0
    raw = stream.readline(LONGEST_LINE)
    while raw:
        number += 1
        yield number, raw
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(LONGEST_LINE)
        raw = stream.readline(LONGEST_LINE)


def _entry(number, text, board):
    line = parse_line(text, board)
    return {"line": number, "time": line.time, "rails": line.rails, "total_mw": line.total_mw, "total": line.total,
            "reason": line.reason}
