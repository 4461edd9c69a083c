"""The table of bench's arguments: defaults, limits, and that board and host show the same options."""

from __future__ import annotations

import argparse

import pytest

from devices.support.errors import UserError
from edge_bench.agent import arguments


def test_defaults_follow_the_doctrine():
    request = arguments.complete({"model": "m.onnx"})
    assert (request["trials"], request["window"], request["quick"]) == (5, 10.0, False)
    assert request["model"] == "m.onnx"


@pytest.mark.parametrize("given", [{"quick": True}, {"trials": 4}, {"window": 9.9}])
def test_fewer_or_shorter_is_quick(given):
    assert arguments.complete(given)["quick"] is True


def test_quick_is_not_kept_where_trials_and_window_are_sound():
    assert arguments.complete({"quick": True, "trials": 5, "window": 10.0})["quick"] is False


@pytest.mark.parametrize("given", [
    {"batch": 0}, {"batch": -3}, {"trials": 0}, {"threads": -1}, {"window": 0.0}, {"window": float("nan")},
    {"window": float("inf")}, {"warmup_cap": -1.0}, {"precision": "fp64"}, {"shape": ["x"]}, {"shape": ["x=0x3"]},
    {"shape": ["x=1x-3"]}, {"wait": -1.0}, {"wait": float("nan")}, {"seed": -1}, {"seed": 1 << 32},
])
def test_senseless_values_are_refused(given):
    with pytest.raises(UserError):
        arguments.complete(given)


def test_shapes_are_read():
    assert arguments.shapes({"shape": ["a=1x3x8x8", "scope/b:0=4"]}) == {"a": [1, 3, 8, 8], "scope/b:0": [4]}


def test_board_and_host_have_the_same_options():
    from edge_bench.cli import bench

    parser = argparse.ArgumentParser()
    arguments.add_to_parser(parser)
    on_board = {word for action in parser._actions for word in action.option_strings} - {"-h", "--help"}
    on_host = {word for option in bench.params for word in option.opts}
    assert on_board <= on_host
    parser.format_help()  # a % in a help text would raise
