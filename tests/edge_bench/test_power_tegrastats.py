"""tegrastats: every line format, damaged lines, whole logs, and the child process."""

import itertools
import os
import signal
import stat
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.support.errors import CannotMeasure, UserError
from edge_bench.agent.power import ReadFailed
from edge_bench.agent.power.source import Absent
from edge_bench.agent.power.tegrastats import Tegrastats, find_program, read_log
from edge_bench.agent.power.tegrastats_line import parse_line

# Made up, in the formats of the releases they are named after.
TX2_R28 = ("RAM 1204/7855MB (lfb 1300x4MB) CPU [12%@1113,off,off,9%@1113,4%@1113,1%@1113] EMC_FREQ 3%@1600 "
           "GR3D_FREQ 15%@216 APE 150 BCPU@40C MCPU@40C GPU@38.5C Tboard@33C Tdiode@37C PMIC@100C thermal@39C "
           "VDD_IN 3217/3104 VDD_CPU 536/501 VDD_GPU 229/190 VDD_SOC 765/760 VDD_WIFI 19/19 VDD_DDR 960/941")
TX2_R32 = ("RAM 2101/7852MB (lfb 1011x4MB) SWAP 0/3926MB (cached 0MB) CPU [2%@345,off,off,3%@345,0%@345,1%@345] "
           "EMC_FREQ 4%@1600 GR3D_FREQ 0%@624 APE 150 PLL@36.5C MCPU@36.5C PMIC@100C Tboard@31C GPU@35.5C BCPU@36.5C "
           "thermal@36.1C Tdiode@33.75C VDD_SYS_GPU 229/152 VDD_SYS_SOC 763/687 VDD_4V0_WIFI 0/0 VDD_IN 4120/3056 "
           "VDD_SYS_CPU 305/152 VDD_SYS_DDR 921/883")
TX2_R32_NOT_ROOT = ("RAM 2101/7852MB (lfb 1011x4MB) SWAP 0/3926MB (cached 0MB) CPU [2%@345,off,off,3%@345,0%@345,"
                    "1%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@36.5C VDD_IN 4120/3056 VDD_SYS_CPU 305/152")
TX1_28_1 = "RAM 1337/3995MB (lfb 420x4MB) cpu [8%,1%,0%,2%]@518 EMC 4%@408 APE 25 GR3D 0%@76"
NANO_R32 = ("RAM 611/3964MB (lfb 88x4MB) SWAP 2/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [11%@307,7%@307,0%@307,"
            "2%@307] EMC_FREQ 1%@204 GR3D_FREQ 0%@76 APE 25 PLL@33C CPU@35.5C PMIC@100C GPU@35C AO@38.5C "
            "thermal@35.25C POM_5V_IN 1432/1399 POM_5V_GPU 0/0 POM_5V_CPU 245/230")
XAVIER_R32 = ("RAM 901/31927MB (lfb 7000x4MB) SWAP 0/15963MB (cached 0MB) CPU [5%@1190,1%@1190,0%@1190,2%@1190,off,off,"
              "off,off] EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% AO@38C GPU@37.5C Tdiode@40.5C "
              "PMIC@100C AUX@36.5C CPU@38C thermal@37.1C Tboard@37C GPU 155/77 CPU 466/311 SOC 932/932 CV 0/0 "
              "VDDRQ 310/621 SYS5V 1442/1482")
ORIN_NX_R35 = ("05-14-2026 09:12:33 RAM 6100/15388MB (lfb 1700x4MB) SWAP 400/7694MB (cached 0MB) CPU [6%@729,9%@729,"
               "off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[611] VIC_FREQ 729 APE 174 CV0@-256C CPU@47.9C tj@48.8C "
               "VDD_IN 5299mW/5107mW VDD_CPU_GPU_CV 773mW/701mW VDD_SOC 1424mW/1399mW ")
AGX_ORIN_R36 = ("RAM   3100/30588MB   (lfb 2x4MB) SWAP 0/15294MB (cached 0MB) CPU [1%@1728,0%@1728] GR3D_FREQ 0%@["
                "305,305]   NVENC off NVDEC off cpu@46.5C tj@47C soc0@44C  VDD_GPU_SOC   2411mW/2400mW VDD_CPU_CV "
                "401mW/399mW VIN_SYS_5V0 3202mW/3199mW NC 0mW/0mW VDDQ_VDD2_1V8AO 604mW/600mW NC 0mW/0mW")
AGX_ORIN_R39 = ("RAM 3100/30588MB (lfb 2x4MB) CPU [1%@1728,0%@1728] cpu@46.5C/47C tj@47C/49C "
                "VDD_GPU_SOC 2411mW/2400mW/2500mW VDD_CPU_CV 401mW/399mW/500mW VIN_SYS_5V0 3202mW/3199mW/3300mW")
XAVIER_R35 = ("RAM 2051/30991MB (lfb 6200x4MB) SWAP 0/15495MB (cached 0MB) CPU [0%@1190,1%@1190,off,off] EMC_FREQ 0% "
              "GR3D_FREQ 0%@114 VIC_FREQ 115 APE 150 AUX@36C CPU@36.5C thermal@35.7C Tboard@37C AO@35C GPU@35C "
              "Tdiode@38.75C PMIC@50C GPU 467mW/460mW CPU 468mW/467mW SOC 1245mW/1240mW CV 0mW/0mW VDDRQ 311mW/311mW "
              "SYS5V 2768mW/2750mW")
TX2_NX_R32 = ("RAM 900/3825MB (lfb 400x4MB) SWAP 0/1912MB (cached 0MB) CPU [9%@345,off,off,4%@345,3%@345] EMC_FREQ "
              "2%@1600 GR3D_FREQ 0%@114 APE 150 MTS fg 0% bg 0% PLL@33C MCPU@33C PMIC@50C GPU@32C thermal@32.6C "
              "VDD_IN 2280/2244 VDD_CPU_GPU 380/342 VDD_SOC 760/760")
TX2_MIXED = ("RAM 4700/7844MB (lfb 1x512kB) CPU [55%@2035,14%@2034,27%@2034] SWAP 149/1024MB (cached 7MB) EMC_FREQ "
             "2%@1866 GR3D_FREQ 12%@1300 APE 150 MTS fg 0% bg 0% BCPU@-45C GPU@-51C VDD_IN 14025/14416 VDD_CPU "
             "2209/2538 VDD_WIFI 19/19 NVENC 716 NVDEC 716 VDD_DDR 2702/2702")
PADDED_R36 = ("RAM 29100/30697MB (lfb 3x4MB)    SWAP 4915/15348MB (cached 1MB) CPU [3%@729,100%@2201] EMC_FREQ 1%@2133 "
              "GR3D_FREQ 0%@[305,305] NVENC      off  NVDEC    off OFA           off PVA0_FREQ off     APE    174 "
              "cpu@53.062C soc0@48.843C  gpu@47.812C tj@53.062C   VDD_GPU_SOC 3205mW/3200mW VDD_CPU_CV 4405mW/4400mW "
              "VIN_SYS_5V0 4767mW/4760mW")
THOR_R38 = ("07-31-2026 14:45:55 RAM 86905/125772MB (lfb 368x4MB) CPU [12%@972,off,33%@1890] cpu@39.812C tj@39.906C "
            "VDD_GPU 3561mW/3560mW/3600mW VDD_CPU_SOC_MSS 7910mW/7910mW/8000mW VIN_SYS_5V0 7620mW/7620mW/7700mW VIN "
            "26686mW/26600mW/27000mW")
WHOLE = {"xavier-r35": (XAVIER_R35, 467 + 468 + 1245 + 0 + 311 + 2768, 6), "tx2-nx": (TX2_NX_R32, 2280, 3),
         "engines-among-the-rails": (TX2_MIXED, 14025, 4), "orin-padded": (PADDED_R36, 3205 + 4405 + 4767, 3),
         "tx2-r28": (TX2_R28, 3217, 6), "tx2-r32": (TX2_R32, 4120, 6), "tx2-not-root": (TX2_R32_NOT_ROOT, 4120, 2),
         "nano": (NANO_R32, 1432, 3), "xavier": (XAVIER_R32, 155 + 466 + 932 + 0 + 310 + 1442, 6),
         "orin-nx": (ORIN_NX_R35, 5299, 3), "agx-orin-r36": (AGX_ORIN_R36, 2411 + 401 + 3202, 4),
         "agx-orin-r39": (AGX_ORIN_R39, 2411 + 401 + 3202, 3)}


@pytest.mark.parametrize("name", WHOLE)
def test_every_format(name):
    text, total, count = WHOLE[name]
    line = parse_line(text + "\r\n")
    assert line.total_mw == total
    assert len(line.rails) == count
    assert line.reason is None
    assert not {"RAM", "SWAP", "IRAM", "NC"} & set(line.rails)


def test_current_and_not_average_is_taken():
    assert parse_line(TX2_R32).rails == {"VDD_SYS_GPU": 229, "VDD_SYS_SOC": 763, "VDD_4V0_WIFI": 0, "VDD_IN": 4120,
                                         "VDD_SYS_CPU": 305, "VDD_SYS_DDR": 921}


def test_agx_orin_leaves_out_what_another_rail_feeds():
    line = parse_line(AGX_ORIN_R36, "agx-orin")
    assert line.rails["VDDQ_VDD2_1V8AO"] == 604
    assert line.total == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]


def test_a_line_without_rails_says_so():
    line = parse_line(TX1_28_1)
    assert (line.rails, line.total_mw, line.reason) == ({}, None, "no power data")


def test_a_board_that_is_not_known_has_rails_and_no_total():
    line = parse_line(THOR_R38)
    assert line.rails == {"VDD_GPU": 3561, "VDD_CPU_SOC_MSS": 7910, "VIN_SYS_5V0": 7620, "VIN": 26686}
    assert line.total_mw is None and "known to be the total" in line.reason


def test_one_run_of_spaces_is_padding_unless_a_digit_may_be_missing():
    assert parse_line(NANO_R32.replace("POM_5V_IN 1432", "POM_5V_IN  1432")).total_mw == 1432
    for damaged in ("POM_5V_IN  432", "POM_5V_IN 0432"):
        line = parse_line(NANO_R32.replace("POM_5V_IN 1432", damaged))
        assert line.total_mw is None and "may lack a digit" in line.reason


@pytest.mark.parametrize("encoding", ["ascii", "utf-8-sig", "utf-16"])
def test_a_log_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "log"
    path.write_bytes("\r\n".join([ORIN_NX_R35, TX2_R32, ""]).encode(encoding))
    entries = list(read_log(str(path)))
    assert [entry["total_mw"] for entry in entries] == [5299, 4120]
    assert entries[0]["time"] == "05-14-2026 09:12:33"


def test_a_log_may_come_through_a_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(TX2_R32 + "\n",))
    writer.start()
    assert [entry["total_mw"] for entry in read_log(str(path))] == [4120]
    writer.join()


def test_time_is_kept():
    assert parse_line(ORIN_NX_R35).time == "05-14-2026 09:12:33"
    assert parse_line(TX2_R32).time is None


@pytest.mark.parametrize(("text", "reason"), [
    ("", "not a whole line"), ("PASS 12/13 tests", "not a whole line"),
    (TX2_R32 + TX2_R32.replace("4120", "9999"), "damaged"), (TX2_R32[:200] + "\0\0" + TX2_R32[200:], "damaged"),
    (TX2_R32 + " VDD_IN 5000/5000", "VDD_IN occurs twice"), (TX2_R32 * 200, "longer than any"),
    ("RAM 1/2MB (lfb 1x4MB) CPU [1%@345] VDD_GPU 12/12", "none of VDD_GPU is known to be the total")])
def test_why_there_is_no_total(text, reason):
    line = parse_line(text)
    assert line.total_mw is None
    assert reason in line.reason


def test_a_sum_with_a_part_missing_is_no_total():
    assert parse_line(XAVIER_R32.replace("CV 0/0 ", "")).total_mw is None


LINES = [text for text, _, _ in WHOLE.values()]


@settings(max_examples=300)
@given(st.sampled_from(LINES), st.integers(0, 600))
def test_a_cut_line_gives_right_numbers_or_none(text, length):
    whole, cut = parse_line(text), parse_line(text[:length])
    assert set(cut.rails.items()) <= set(whole.rails.items())
    assert cut.total_mw in (None, whole.total_mw)


@settings(max_examples=300)
@given(st.sampled_from(LINES), st.integers(0, 600))
def test_a_line_without_its_beginning_gives_right_numbers_or_none(text, length):
    whole, cut = parse_line(text), parse_line(text[length:])
    assert set(cut.rails.items()) <= set(whole.rails.items())
    assert cut.total_mw in (None, whole.total_mw)


@settings(max_examples=300)
@given(st.sampled_from(LINES), st.sampled_from(LINES), st.integers(0, 600))
def test_a_torn_line_with_a_whole_one_behind_it_gives_right_numbers_or_none(first, second, end):
    known = set(parse_line(first).rails.items()) | set(parse_line(second).rails.items())
    joined = parse_line(first[:end] + second)
    assert set(joined.rails.items()) <= known
    assert joined.total_mw in (None, parse_line(first).total_mw, parse_line(second).total_mw)


@settings(max_examples=500)
@given(st.sampled_from([text for text in LINES if "   " not in text]), st.integers(0, 600),
       st.one_of(st.just(" "), st.characters(exclude_characters="0123456789/")))
def test_a_foreign_character_never_makes_a_number_that_was_not_there(text, place, character):
    """Of all single characters only another digit, or a slash amid a number, can make a number that looks right."""
    line = parse_line(text[:place] + character + text[place + 1:])
    assert set(line.rails.values()) <= set(parse_line(text).rails.values())


@pytest.mark.parametrize("text", LINES)
def test_runs_of_spaces_change_nothing(text):
    assert parse_line(text.replace(" ", "   ")).rails == parse_line(text).rails


@settings(max_examples=500)
@given(st.text(max_size=300))
def test_any_text_is_survived(text):
    line = parse_line(text)
    assert line.reason is not None or line.total_mw is not None


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_are_no_log(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"no line of it comes from tegrastats|the file is empty"):
        list(read_log(str(path)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(LINES).map(str.encode), st.binary(max_size=200)), min_size=1, max_size=12))
def test_a_log_with_rubbish_in_it_gives_each_good_line(tmp_path_factory, parts):
    parts = [*parts, TX2_R32.encode()]
    data = b"\n".join(part.replace(b"\n", b"?") if part not in map(str.encode, LINES) else part for part in parts)
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(data)
    totals = [entry["total_mw"] for entry in read_log(str(path)) if entry["total_mw"] is not None]
    expected = [parse_line(part.decode()).total_mw for part in parts if part in map(str.encode, LINES)]
    assert totals == expected


def test_read_log_numbers_lines_and_gives_reasons(tmp_path):
    path = tmp_path / "log"
    path.write_text("\n".join(["tegrastats begins", TX2_R32, "", TX1_28_1, ORIN_NX_R35]) + "\n")
    entries = list(read_log(str(path)))
    assert [(entry["line"], entry["total_mw"], entry["reason"]) for entry in entries] == [
        (1, None, "not a whole line of tegrastats"), (2, 4120, None), (4, None, "no power data"), (5, 5299, None)]
    assert entries[3]["time"] == "05-14-2026 09:12:33"
    assert entries[1]["total"] == ["VDD_IN"]


def test_ten_megabytes_of_random_bytes_end_early(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(os.urandom(10_000_000))
    with pytest.raises(UserError, match="no line of it comes from tegrastats; record one with"):
        list(read_log(str(path)))


def test_random_bytes_after_a_good_line_are_read_to_the_end(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(TX2_R32.encode() + b"\n" + os.urandom(3_000_000) + b"\n" + TX2_R28.encode())
    totals = [entry["total_mw"] for entry in read_log(str(path)) if entry["total_mw"] is not None]
    assert totals == [4120, 3217]


def test_one_endless_line_is_cut(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(TX2_R32.encode() + b"\n" + b"A" * 5_000_000 + b"\n" + TX2_R32.encode())
    assert [entry["line"] for entry in read_log(str(path))] == [1, 2, 3]


@pytest.mark.parametrize(("make", "reason"), [(lambda p: None, "no such file"), (lambda p: p.mkdir(), "is a folder"),
                                              (lambda p: p.write_text(""), "the file is empty")])
def test_what_is_no_file_is_said(tmp_path, make, reason):
    make(tmp_path / "log")
    with pytest.raises(UserError, match=reason):
        list(read_log(str(tmp_path / "log")))


# the child process

def program(root, body):
    path = root / "usr/bin/tegrastats"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


FOLLOWS = f"""echo "$@" > "$0.args"; echo $$ > "$0.pid"
while true; do echo "{TX2_R32}"; sleep 0.05; done
"""


def test_the_child_is_read_and_ended_by_its_own_pid(tmp_path):
    path = program(tmp_path, FOLLOWS)
    source = Tegrastats(str(tmp_path), "tx2", interval_ms=50)
    source.open()
    samples = [source.read() for _ in range(4)]
    assert all(sample.total_mw == 4120 for sample in samples)
    assert all(a.t_s < b.t_s for a, b in itertools.pairwise(samples))
    assert source.totals == {"module": ["VDD_IN"]}
    assert source.quantum_mw == 38
    pid = int((path.parent / "tegrastats.pid").read_text())
    source.close()
    source.close()
    assert (path.parent / "tegrastats.args").read_text().split() == ["--interval", "50"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_dies_is_a_failed_reading(tmp_path):
    path = program(tmp_path, FOLLOWS)
    source = Tegrastats(str(tmp_path), "tx2", interval_ms=50)
    source.open()
    os.kill(int((path.parent / "tegrastats.pid").read_text()), signal.SIGKILL)
    with pytest.raises(ReadFailed, match=r"it ended \(exit code -9\)"):
        for _ in range(100):
            source.read()
    source.close()


@pytest.mark.parametrize(("body", "reason"), [
    ("exit 3\n", r"starts, but it ended \(exit code 3\)"),
    (f'while true; do echo "{TX1_28_1}"; sleep 0.05; done\n', "shows no power: no power data; some releases"),
    ("sleep 0.2; echo nonsense; sleep 9\n", "shows no power: not a whole line")])
def test_a_child_without_power_is_refused(tmp_path, body, reason):
    program(tmp_path, body)
    source = Tegrastats(str(tmp_path), "tx2")
    started = time.monotonic()
    with pytest.raises(CannotMeasure, match=reason):
        source.open()
    assert time.monotonic() - started < 5


def test_a_program_that_is_not_there_or_may_not_run(tmp_path):
    with pytest.raises(Absent, match="there is no"):
        find_program(str(tmp_path))
    path = program(tmp_path, "")
    path.chmod(stat.S_IRUSR)
    if os.access(path, os.X_OK):
        pytest.skip("this user may run anything")
    with pytest.raises(Absent, match="may not be run"):
        find_program(str(tmp_path))
