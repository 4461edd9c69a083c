"""The fit of the cost model's constants."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from published_tx2 import DATA, FIXED, layers_of, published

from devices.board import load_board, value_of
from devices.calibration import PRIORS, Sample, fit, leave_one_family_out, predict_samples, relative_sigma
from devices.cost_formula import LayerArrays, formula, resolve
from devices.support.errors import UserError

BOARD = load_board("tx2")
TRUTH = {name: value_of(entry) for name, entry in BOARD.data["cost_model"]["parameters"].items()}


def samples(families: tuple[str, ...] = ("cnv", "mlp"), noise: float = 0.0) -> list[Sample]:
    """Rows that a board with the constants of tx2.json would give."""
    generator = np.random.default_rng(0)
    rows = []
    for family, pruned, mode, precision, batch in itertools.product(
            families, ("100", "25"), ("MAXN", "MAXP_CORE_ARM", "MAXQ"), ("fp32", "fp16"), (1, 16)):
        layers = layers_of(f"{family}_{pruned}")
        costs = formula(resolve(BOARD, TRUTH, mode, precision), LayerArrays.of(layers), batch)
        rolled = np.exp(noise * generator.standard_normal(3))
        rows.append(Sample(f"{family}_{pruned}", family, layers, mode, precision, batch,
                           float(costs.latency_ms[0] * rolled[0]), float(costs.gpu_ms[0] * rolled[1]),
                           float(costs.board_mj[0] / costs.latency_ms[0] * rolled[2])))
    return rows


def test_explains_rows_that_the_formula_made() -> None:
    rows = [dataclasses.replace(row, latency_sigma=0.005, power_sigma=0.005) for row in samples()]
    fitted = fit(rows, BOARD, FIXED)
    for outcome in predict_samples(fitted, rows, BOARD):
        assert abs(outcome.errors["latency"] or 0) < 0.02
        assert abs(outcome.errors["power"] or 0) < 0.02
    assert fitted.constants["efficiency"]["fp16"] == pytest.approx(TRUTH["efficiency"]["fp16"], rel=0.1)
    assert fitted.constants["pj_per_mac"]["fp32"] == pytest.approx(TRUTH["pj_per_mac"]["fp32"], rel=0.2)


def test_another_stack_gets_factors_of_its_own() -> None:
    rows = [dataclasses.replace(row, latency_sigma=0.005) for row in samples(("cnv",))]
    slow = []
    for row in rows:
        k = resolve(BOARD, TRUTH, row.mode, row.precision, gpu=1.5, host=0.5, feeds=False)
        costs = formula(k, LayerArrays.of(row.layers), row.batch)
        slow.append(dataclasses.replace(row, latency_ms=float(costs.latency_ms[0]), compute_ms=float(costs.gpu_ms[0]),
                                        power_w=None, stack="old", feeds=False))
    fitted = fit(rows + slow, BOARD, FIXED)
    assert fitted.stacks["old"]["gpu"] == pytest.approx(1.5, rel=0.03)
    assert fitted.stacks["old"]["host"] == pytest.approx(0.5, rel=0.1)
    value, sigma = fitted.another_stack["gpu"]
    assert value == pytest.approx(1.5 ** 0.5, rel=0.02) and sigma > 0.2  # half way, and not well known


def test_a_kind_or_stack_of_its_own_does_not_count_as_an_error_of_the_rest() -> None:
    rows = samples(noise=0.02)
    strange = [dataclasses.replace(row, family="odd", stack="odd", latency_ms=3 * row.latency_ms) for row in rows[:4]]
    with_it = leave_one_family_out(rows + strange, BOARD, FIXED)
    assert {outcome.unseen for outcome in with_it if outcome.sample.family == "odd"} == {frozenset({"odd"})}
    assert relative_sigma(with_it, "latency") < 0.5


def test_every_family_is_predicted_by_a_fit_that_has_not_seen_it() -> None:
    rows = samples(noise=0.02)
    outcomes = leave_one_family_out(rows, BOARD, FIXED)
    assert [o.sample for o in outcomes] == rows
    assert 0.01 < relative_sigma(outcomes, "latency") < 0.5
    only_cnv = fit([row for row in rows if row.family == "cnv"], BOARD, FIXED)
    mlp = [row for row in rows if row.family == "mlp"]
    assert outcomes[-1].latency_ms == pytest.approx(predict_samples(only_cnv, mlp, BOARD)[-1].latency_ms)


def test_what_is_not_measured_has_no_error_and_no_say() -> None:
    rows = [dataclasses.replace(row, compute_ms=None, power_w=None) for row in samples(("cnv",))]
    fitted = fit(rows, BOARD, FIXED)
    assert predict_samples(fitted, rows, BOARD)[0].errors["energy"] is None
    assert fitted.constants["pj_per_byte"] == pytest.approx(PRIORS["pj_per_byte"][0])
    with pytest.raises(UserError, match="no measurement tells anything about power"):
        relative_sigma(predict_samples(fitted, rows, BOARD), "power")


def test_refuses_to_fit_nothing() -> None:
    with pytest.raises(UserError, match="no measurements"):
        fit([], BOARD, FIXED)


@pytest.mark.skipif(not DATA.is_dir(), reason="the published TX2 rows are not in ../shared/data/tx2")
def test_the_boards_file_holds_the_fit_of_the_published_rows() -> None:
    """The constants in tx2.json explain GoogLeNet's rows; how well they do elsewhere is bench_cost_model's matter."""
    rows = [row for row in published() if row.network == "googlenet" and row.stack is None]
    assert len(rows) == 16
    for row in rows:
        costs = formula(resolve(BOARD, TRUTH, row.mode, row.precision), LayerArrays.of(row.layers), row.batch)
        assert costs.latency_ms[0] == pytest.approx(row.latency_ms, rel=0.2)
        assert costs.board_mj[0] / costs.latency_ms[0] == pytest.approx(row.power_w, rel=0.2)
