"""Fits the constants of the cost model to measurements, and says how wrong it is on networks that it has not seen.

The fit is the most probable set of constants (all positive, so by their logarithms) under the priors below, which say
what is physically plausible; few parameters and these priors keep it sound where rows are scarce. Residuals are
relative, robust (soft L1: a large one counts linearly), and every family of networks has about the same say, however
many rows it brings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from devices.board import Board
from devices.cost_formula import Costs, LayerArrays, formula, resolve, stacked
from devices.layer_cost import LayerCost
from devices.support.errors import UserError

__all__ = ["PRIORS", "Fit", "Outcome", "Sample", "fit", "leave_one_family_out", "predict_samples", "relative_sigma"]

ROWS_OF_A_FAMILY = 16  # more rows than these share their weight
MAX_STEPS, STEP, TOLERANCE = 200, 1e-4, 1e-4

# name: (mean, standard deviation of the logarithm); dots lead into a table by precision or mode
PRIORS: dict[str, tuple[float, float]] = {
    "efficiency.fp32": (0.9, 0.1),  # of peak, for a deep layer that fills the GPU
    "efficiency.fp16": (0.85, 0.15),
    "oblong_efficiency": (0.75, 0.3),  # no Winograd, and fewer hand-written kernels, for 1x7 and 7x1
    "depthwise_efficiency": (0.3, 1.0),
    "output_macs": (120, 0.7),
    "fill_outputs": (4000, 1.0),  # some two waves of 2 x 2048 threads
    "fill_exponent": (0.7, 0.3),
    "bandwidth_efficiency": (0.6, 0.3),
    "launch_ms": (0.025, 0.5),
    "launch_clock_exponent": (0.7, 0.3),
    "host_call_ms": (0.15, 0.5),
    "host_image_ms": (0.15, 0.5),
    "host_ns_per_byte": (2.0, 0.5),  # one A57 core that converts and copies floats at 0.5 GB/s
    "host_time_factor.MAXN": (0.9, 0.2),  # Denver cores help; MAXQ's A57 run at 1.2 instead of 2.0 GHz
    "host_time_factor.MAXQ": (1.3, 0.2),
    "launch_mj": (0.08, 0.7),  # 2 to 3 W of a busy CPU and GPU for a launch
    "host_image_mj": (0.4, 0.7),
    "host_nj_per_byte": (1.0, 1.0),  # a core that mostly waits for memory: some 0.3 W for 3 ns
    "host_energy_factor.MAXN": (1.2, 0.3),
    "host_energy_factor.MAXQ": (0.5, 0.4),  # the square of the clock, or a little more
    "pj_per_mac.fp32": (35, 0.4),
    "pj_per_mac.fp16": (17, 0.4),
    "gpu_energy_clock_exponent": (0.8, 0.5),  # energy of an event goes with the square of the voltage
    "pj_per_byte": (100, 0.4),  # LPDDR4 with controller and regulators
}
# time on the GPU and on the host of another software stack, relative to the rows without one: another TensorRT, and
# a host that copies a ready input instead of feeding images
STACK_PRIORS = {"gpu": (1.2, 0.4), "host": (0.3, 1.0)}
# standard deviation of the logarithm of these kinds' rates: where some row has the kind, and where none has
KIND_SIGMAS = {"oblong": (0.2, 0.3), "depthwise": (0.25, 0.7), "grouped": (0.4, 0.6), "matmul": (0.4, 0.6)}
STACKS_SPREAD = (0.3, 2)  # prior standard deviation between stacks' device times, and how many stacks it counts for
HOST_SIGMA = 0.7  # of the logarithm of what a program spends on an input that lies ready; two stacks tell little


@dataclass(frozen=True)
class Sample:
    """One measured condition. layers: of the network, fused. mode: the power mode's own name. latency_ms: host to
    host, of the batch; compute_ms: the device's part of it, None where it is not known or not to be trusted.
    power_w: mean power at this condition, None where not measured. stack: another software stack, whose device and
    host times get factors of their own. feeds: whether the host prepared every image. Sigmas: relative error of the row
    as a measurement of what is modelled.
    """

    network: str
    family: str
    layers: Sequence[LayerCost]
    mode: str
    precision: str
    batch: int
    latency_ms: float
    compute_ms: float | None = None
    power_w: float | None = None
    stack: str | None = None
    feeds: bool = True
    latency_sigma: float = 0.08
    power_sigma: float = 0.06


@dataclass
class Fit:
    """Fitted constants, by the names of `devices.cost_formula.resolve`; stacks: {stack: {"gpu", "host": factor}}."""

    constants: dict[str, Any]
    stacks: dict[str, dict[str, float]]
    cost: float

    @property
    def another_stack(self) -> dict[str, tuple[float, float]]:
        """What a stack that was not measured has for factors: {"gpu", "host": (value, standard deviation of its
        logarithm)}, as a draw from the stacks that were. The unnamed one counts among them for the device, and not for
        the host, where it alone feeds images."""
        gpu = np.log([1.0, *(factors["gpu"] for factors in self.stacks.values())])
        host = np.log([factors["host"] for factors in self.stacks.values()] or [STACK_PRIORS["host"][0]])
        n, (prior, weight) = len(gpu), STACKS_SPREAD
        variance = (weight * prior**2 + float(np.square(gpu - gpu.mean()).sum())) / (weight + n - 1)
        return {"gpu": (float(np.exp(gpu.mean())), float(np.sqrt(variance * (1 + 1 / n)))),
                "host": (float(np.exp(host.mean())), HOST_SIGMA)}


@dataclass(frozen=True)
class Outcome:
    """What was predicted for a sample; errors are logarithms of predicted over measured, None where not measured.
    fitted: what predicted it. unseen: kinds of layers and the stack that the sample has and no row of the fit had; see
    `leave_one_family_out`."""

    sample: Sample
    latency_ms: float
    compute_ms: float
    power_w: float
    errors: dict[str, float | None]
    fitted: Fit
    unseen: frozenset[str] = frozenset()


class _Rows:
    """Samples as arrays, so that one call of the formula prices them all."""

    def __init__(self, samples: Sequence[Sample], board: Board):
        self.samples, self.board = samples, board
        networks = {sample.network: sample.layers for sample in samples}
        index = [list(networks).index(sample.network) for sample in samples]
        every = LayerArrays.of(*networks.values())
        self.arrays = LayerArrays(*(np.asarray(getattr(every, name))[index] for name in (
            "active", "macs", "weights", "inputs", "outputs", "kind", "host_elements")))
        self.batch = np.array([[float(sample.batch)] for sample in samples])
        conditions = [(s.mode, s.precision, s.stack or "", s.feeds) for s in samples]
        self.conditions = sorted(set(conditions))
        self.condition = [self.conditions.index(condition) for condition in conditions]
        self.stacks = sorted({s.stack for s in samples if s.stack})
        self.measured = {
            "latency": np.array([s.latency_ms for s in samples]),
            "compute": np.array([s.compute_ms or np.nan for s in samples]),
            "power": np.array([s.power_w or np.nan for s in samples])}
        sigma = np.array([s.latency_sigma for s in samples])
        self.sigma = {"latency": sigma, "compute": sigma, "power": np.array([s.power_sigma for s in samples])}
        rows = Counter(s.family for s in samples)
        self.weight = np.array([min(1.0, ROWS_OF_A_FAMILY / rows[s.family]) ** 0.5 for s in samples])

    def predict(self, constants: Mapping[str, Any], stacks: Mapping[str, Mapping[str, float]]) -> dict[str, np.ndarray]:
        """compute and latency in ms and power in W, [n] each."""
        resolved = [resolve(self.board, constants, mode, precision, feeds=feeds, **stacks.get(stack, {}))
                    for mode, precision, stack, feeds in self.conditions]
        costs: Costs = formula(stacked([resolved[c] for c in self.condition]), self.arrays, self.batch)
        return {"compute": costs.gpu_ms, "latency": costs.latency_ms, "power": costs.board_mj / costs.latency_ms}


def _nested(names: Sequence[str], values: np.ndarray, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The constants as `resolve` takes them: `fixed` ones and tables, overlaid with the fitted values."""
    constants: dict[str, Any] = {name: dict(v) if isinstance(v, Mapping) else v for name, v in fixed.items()}
    for name, value in zip(names, values.tolist(), strict=True):
        table, dot, key = name.partition(".")
        if dot:
            constants.setdefault(table, {})[key] = value
        else:
            constants[name] = value
    for table in ("host_time_factor", "host_energy_factor"):  # modes that were not measured go like the nearest
        for mode in fixed["idle_w"]:
            constants.setdefault(table, {}).setdefault(mode, 1.0)
    constants.setdefault("grouped_efficiency",
                         (constants["depthwise_efficiency"] * constants["efficiency"]["fp32"]) ** 0.5)
    return constants


def fit(samples: Sequence[Sample], board: Board, fixed: Mapping[str, Any],
        priors: Mapping[str, tuple[float, float]] = PRIORS) -> Fit:
    """The constants that explain `samples` best. fixed: what is not fitted: reference_gpu_mhz, idle_w by mode,
    carrier_w. priors: of what is, as PRIORS. UserError without samples."""
    if not samples:
        raise UserError("there are no measurements to fit the cost model to")
    rows = _Rows(samples, board)
    names = list(priors)
    every = [*priors.values(), *[prior for _ in rows.stacks for prior in STACK_PRIORS.values()]]
    mean, deviation = np.log([p[0] for p in every]), np.array([p[1] for p in every])

    def unpack(x: np.ndarray) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
        values = np.exp(x)
        factors = iter(values[len(names):].tolist())
        return (_nested(names, values[:len(names)], fixed),
                {stack: {part: next(factors) for part in STACK_PRIORS} for stack in rows.stacks})

    def residuals(x: np.ndarray) -> np.ndarray:
        predicted = rows.predict(*unpack(x))
        parts = []
        for what, measured in rows.measured.items():
            error = rows.weight * np.log(predicted[what] / measured) / rows.sigma[what]
            error = np.where(np.isnan(measured), 0.0, error)
            parts.append(np.sign(error) * np.sqrt(2 * (np.sqrt(1 + error**2) - 1)))  # soft L1
        return np.concatenate([*parts, (x - mean) / deviation])

    x, cost = _least_squares(residuals, mean.copy())
    return Fit(*unpack(x), cost)


def _least_squares(residuals: Any, x: np.ndarray) -> tuple[np.ndarray, float]:
    """Levenberg-Marquardt with a forward-difference Jacobian; the x found and its sum of squares."""
    damping, current = 1.0, residuals(x)
    cost = float(current @ current)
    for _ in range(MAX_STEPS):
        jacobian = np.stack([(residuals(x + STEP * unit) - current) / STEP for unit in np.eye(len(x))], axis=1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ current
        while True:
            step = np.linalg.solve(normal + damping * np.eye(len(x)), -gradient)
            candidate = residuals(x + step)
            reached = float(candidate @ candidate)
            if reached < cost:
                break
            damping *= 4
            if damping > 1e9:
                return x, cost
        gain, x, current, cost = cost - reached, x + step, candidate, reached
        damping = max(damping / 5, 1e-9)
        if gain < TOLERANCE * cost:
            break
    return x, cost


def predict_samples(fitted: Fit, samples: Sequence[Sample], board: Board) -> list[Outcome]:
    """What a fit says about samples, with the errors where they were measured."""
    rows = _Rows(samples, board)
    unseen = {part: value for part, (value, _) in fitted.another_stack.items()}
    predicted = rows.predict(fitted.constants, {name: fitted.stacks.get(name, unseen) for name in rows.stacks})
    errors = {what: np.log(predicted[what] / measured) for what, measured in rows.measured.items()}
    errors["energy"] = errors["latency"] + errors["power"]
    latency, compute, power = (predicted[what].tolist() for what in ("latency", "compute", "power"))
    return [Outcome(sample, latency[i], compute[i], power[i], {
                what: None if np.isnan(values[i]) else float(values[i]) for what, values in errors.items()}, fitted)
            for i, sample in enumerate(samples)]


def leave_one_family_out(samples: Sequence[Sample], board: Board, fixed: Mapping[str, Any],
                         priors: Mapping[str, tuple[float, float]] = PRIORS) -> list[Outcome]:
    """Every sample predicted by a fit that has seen no network of its family."""
    outcomes = []
    for family in dict.fromkeys(s.family for s in samples):
        others = [s for s in samples if s.family != family]
        fitted, seen = fit(others, board, fixed, priors), set().union(*map(_peculiar, others))
        outcomes += [replace(outcome, unseen=frozenset(_peculiar(outcome.sample) - seen))
                     for outcome in predict_samples(fitted, [s for s in samples if s.family == family], board)]
    return outcomes


def _peculiar(sample: Sample) -> set[str]:
    """What another sample must have too for a fit to it to tell something about this one."""
    return {layer.kind for layer in sample.layers if layer.kind in KIND_SIGMAS} | (
        {sample.stack} if sample.stack else set())


def relative_sigma(outcomes: Sequence[Outcome], what: str) -> float:
    """Relative standard error of a prediction for a family that the fit has not seen: the root of the families' mean
    squared errors, each family counting once, widened for their small number n by sqrt(1 + 1/n). Families with a kind
    of layer or a stack of their own do not count, since those have uncertainties of their own."""
    families: dict[str, list[float]] = {}
    for outcome in outcomes:
        error = outcome.errors[what]
        if error is not None and not outcome.unseen:
            families.setdefault(outcome.sample.family, []).append(error)
    squares = [float(np.mean(np.square(errors))) for errors in families.values()]
    if not squares:
        raise UserError(f"no measurement tells anything about {what}")
    return float(np.sqrt(np.mean(squares) * (1 + 1 / len(squares))))
