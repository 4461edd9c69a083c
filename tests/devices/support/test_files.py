"""Where a file is written to: nothing that is no regular file is ever replaced by one."""

from __future__ import annotations

import os
import threading

import pytest

from devices.support.errors import UserError
from devices.support.files import require_writable, write_bytes


def test_a_link_stays_and_what_it_leads_to_is_replaced_whole(tmp_path):
    (tmp_path / "kept").mkdir()
    link, target = tmp_path / "link.json", tmp_path / "kept/real.json"
    link.symlink_to("kept/real.json")
    for data in (b"made", b"replaced"):  # the first time there is nothing yet at its end
        require_writable(link)
        write_bytes(link, data)
        assert link.is_symlink() and not target.is_symlink() and target.read_bytes() == data
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "link.json", "real.json"]


def test_a_named_pipe_gets_the_data_and_stays(tmp_path):
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    require_writable(pipe)
    write_bytes(pipe, b"data")
    assert pipe.is_fifo()
    reader.join(10)
    assert found == [b"data"] and os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="no /dev/fd")
def test_a_shells_process_substitution_gets_the_data():
    read, write = os.pipe()
    try:
        require_writable(f"/dev/fd/{write}")
        write_bytes(f"/dev/fd/{write}", b"data")
        assert os.read(read, 10) == b"data"
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("write", [require_writable, lambda path: write_bytes(path, b"data")])
def test_a_folder_is_refused_by_any_name(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    for name in (".", str(tmp_path), f"{tmp_path}/"):
        with pytest.raises(UserError, match="it is a folder; name a file"):
            write(name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["none/a.json", "file/a.json"])
def test_a_path_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"{path}: there is no such folder; name a file in one that exists"):
        require_writable(path)
    require_writable("file")
