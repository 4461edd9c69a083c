"""Downloads from a server on this machine that cuts, refuses and changes what it sends."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_cifar10 import write

from devices.support.errors import UserError
from synth.data import cifar10
from synth.data import download as downloading
from synth.data.download import cache_folder, download

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Page(BaseHTTPRequestHandler):
    """Serves `server.content`, at most `server.cuts[n]` bytes in the n-th answer; keeps the ranges it was asked for."""

    def do_GET(self) -> None:
        server = self.server
        if self.path != "/file":
            self.send_error(404)
            return
        asked = self.headers.get("Range", "")
        server.asked.append(asked)
        start = int(asked[len("bytes="):-1]) if server.ranges and asked else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if server.ranges and asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def page(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE_S", 0.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.content, server.cuts, server.asked, server.ranges = CONTENT, [], [], True
    server.url = f"http://127.0.0.1:{server.server_port}/file"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def get(page, path: Path, md5: str | None = None) -> None:
    download(page.url, path, md5 or hashlib.md5(page.content).hexdigest(), len(page.content), "do it by hand")


def test_a_whole_file(page, tmp_path):
    get(page, tmp_path / "a" / "file")
    assert (tmp_path / "a" / "file").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_cut_is_taken_up_where_it_ended(page, tmp_path):
    page.cuts = [300_000, 500_000]
    get(page, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert page.asked == ["bytes=0-", "bytes=300000-", "bytes=800000-"]


def test_what_an_earlier_command_got_is_kept(page, tmp_path):
    page.cuts = [100_000, 0, 0, 0]
    with pytest.raises(UserError, match=r"cannot be downloaded \(the connection ended early\): run the same command"):
        get(page, tmp_path / "file")
    assert not (tmp_path / "file").exists() and (tmp_path / "file.part").stat().st_size == 100_000
    get(page, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT and page.asked[-1] == "bytes=100000-"


def test_a_whole_part_needs_nothing_more(page, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    get(page, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(page, tmp_path):
    page.ranges = False
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    get(page, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_wrong_checksum(page, tmp_path):
    with pytest.raises(UserError, match=r"wrong checksum \(MD5 [0-9a-f]{32}, expected 0{32}\).*or do it by hand"):
        get(page, tmp_path / "file", md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_says_no_is_not_asked_again(page, tmp_path):
    with pytest.raises(UserError, match=r"the page answers 404 Not Found"):
        download(page.url + "s", tmp_path / "file", "", 1, "do it by hand")
    page.shutdown()
    page.server_close()
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*refused"):
        get(page, tmp_path / "file")


def test_cifar10_is_fetched_once(page, tmp_path, monkeypatch):
    """From an archive of the original form, into the cache; the second time from there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    write(tmp_path / "source", monkeypatch, "python")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as packed:
        packed.add(tmp_path / "source" / cifar10.PYTHON_FOLDER, cifar10.PYTHON_FOLDER)
    page.content = stream.getvalue()
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", page.url)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(page.content).hexdigest())
    one, two = cifar10.load(), cifar10.load()
    assert one.checksum == two.checksum == cifar10.load(tmp_path / "source").checksum
    assert len(page.asked) == 1
    left = sorted(path.name for path in (cache_folder("cifar10") / cifar10.PYTHON_FOLDER).iterdir())
    assert left == sorted([*cifar10.TRAIN_BATCHES, cifar10.TEST_BATCH])
    assert not list(cache_folder("cifar10").glob("*file*"))


def test_an_archive_of_something_else(page, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", page.url)
    monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(page.content).hexdigest())
    with pytest.raises(UserError, match="cannot be unpacked"):
        cifar10.load()
    assert not list(cache_folder("cifar10").glob("*file*"))
