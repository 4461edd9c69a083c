"""What a network of a space is decided by, what a candidate answered, and what a problem offers to the cycle.

The generator, the inquisitor and the cycle know nothing else: the same code runs on real networks and on the synthetic
landscapes of tests/benchmarks. Decisions travel as int64 arrays [n, sites]: row i picks, for site j, the choice
`sites[j].choices[decisions[i, j]]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from devices.support.errors import UserError
from synth.search.probe_table import ProbeTable

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Decisions = tuple[int, ...]
SWITCHES = ("activation", "nonlinearity", "attention")  # kinds of sites: something that φ lacks, or lastly φ's own
DECIDED_OTHERWISE = ("this run decided on other things than this edgesynth does: go on with the version that "
                     "started it, or start a new run")


@dataclass(frozen=True)
class Site:
    """One decision.

    name: "stage2.block0/operator". kind: "width", "operator", "block", ...; sites of one kind share what is learnt of
    their choices. choices: for an ordered site by increasing cost. descriptor: where the site stands (relative depth,
    log width, map size, share of the parent's parameters and MACs, ...); of one length for all sites of a space. own:
    the choice that the prototype has, -1 for the last.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    ordered: bool
    descriptor: tuple[float, ...]
    own: int = -1


class Space(Protocol):
    """All networks that can be decided on. Every method is vectorised over the rows of `decisions`."""

    @property
    def sites(self) -> Sequence[Site]: ...

    def costs(self, decisions: IntArray) -> dict[str, FloatArray]:
        """Exact or predicted costs by name, each [n]: always "params" and "macs" (plain counts), and what the
        requirements name, such as "img_per_joule@8"."""
        ...

    def summary(self, decisions: IntArray) -> FloatArray:
        """[n, k]: about ten numbers on comparable scales that describe the network as a whole (depth, mean width,
        share of each operator, narrowest place, ...)."""
        ...

    def canonical(self, decisions: IntArray) -> IntArray:
        """The decisions with those that make no difference (inside a dropped block) set to a fixed value, so that
        equal rows are equal networks."""
        ...


@dataclass(frozen=True)
class Observation:
    """What one evaluated candidate answered.

    log_loss: natural log of the validation cross-entropy after the usual short training, with its standard error.
    accuracy: validation accuracy (fraction) after the same training. final_accuracy: after full training, for the
    few that had one; the link from short to full is learnt from these.
    """

    decisions: Decisions
    log_loss: float
    log_loss_se: float
    accuracy: float
    final_accuracy: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "decisions": list(self.decisions)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Observation:
        return cls(**{**value, "decisions": tuple(int(choice) for choice in value["decisions"])})


class Indicator(Protocol):
    """1r as the cycle needs it."""

    @property
    def accuracy_bound(self) -> float | None:
        """The least validation accuracy after full training (fraction, margin included), None when not required."""
        ...

    @property
    def validation_images(self) -> int | None:
        """How many images accuracies are counted on, where that is known."""
        ...

    def cost_slack(self, costs: Mapping[str, FloatArray]) -> FloatArray:
        """[n, r] slack of every requirement on costs, less its margin: the log of the ratio to its bound, >= 0 where it
        holds (see `synth.objective.requirements.Requirement.slack`). r may be 0."""
        ...


class Problem(Protocol):
    """What the cycle runs on."""

    @property
    def space(self) -> Space: ...

    @property
    def requirements(self) -> Indicator: ...

    def initial(self) -> list[Observation]:
        """What is known before the first cycle: anchors such as slices of the parent; may be empty. At least one
        with a final accuracy makes the first cycles much better informed."""
        ...

    def evaluate(self, cycle: int, batch: Sequence[Decisions]) -> list[Observation]:
        """One observation per candidate, in order. A resumed run hands back what it recorded, and of the networks that
        it recorded, should the arithmetic of another machine propose others."""
        ...

    def probe_table(self) -> ProbeTable:
        """What probing has said so far; read once before the first cycle and after every evaluation."""
        ...

    def end_cycle(self, cycle: int, state: Any) -> None:
        """Called after the generator's step with the cycle's `CycleReport` (`search.synthesis`): write back, save, show
        progress."""
        ...


def rows(candidates: Iterable[Sequence[int]], sites: int) -> IntArray:
    """Candidates as int64 [n, sites]; [0, sites] when there are none."""
    return np.asarray(list(candidates), dtype=np.int64).reshape(-1, sites)


def choice_counts(sites: Sequence[Site]) -> IntArray:
    """[sites] the number of choices of each."""
    return np.array([len(site.choices) for site in sites], dtype=np.int64)


def own_decisions(sites: Sequence[Site]) -> IntArray:
    """[sites] the prototype's own choice everywhere."""
    return np.array([site.own % len(site.choices) for site in sites], dtype=np.int64)


def to_words(sites: Sequence[Site], decisions: Sequence[int]) -> list[str]:
    """The choice at every site, as runs keep them on disk."""
    return [site.choices[choice] for site, choice in zip(sites, decisions, strict=True)]


def from_words(sites: Sequence[Site], words: Sequence[str]) -> Decisions:
    """The decisions that `to_words` gave. UserError where these sites have no such choices."""
    try:
        return tuple(site.choices.index(word) for site, word in zip(sites, words, strict=True))
    except ValueError as error:
        raise UserError(DECIDED_OTHERWISE) from error
