"""Synthetic landscapes: spaces with exact multiplicative costs, like a network's, and a log loss whose truth is known.

A landscape is a pure function of (family, number). Families:
  separable    every decision adds its own damage
  neighbours   damages of neighbouring decisions multiply, some make up for each other
  cliffs       a bottleneck or too little depth costs dearly, all at once
  epistasis    random tables over triples of decisions on top (no structure that a model could know)
  misleading   like neighbours, but the probe table belongs to other sites, in part with the wrong sign
Noise of one short training: standard error of the log loss 0.05 to 0.15, as on real networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.objective.performance import performance
from synth.search.decisions import Decisions, FloatArray, IntArray, Observation, Site, choice_counts, rows
from synth.search.probe_table import ProbeTable

FAMILIES = ("separable", "neighbours", "cliffs", "epistasis", "misleading")
OPERATORS = ("pointwise", "grouped", "separable", "inverted", "dense")
WIDTHS = (0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 0.9, 1.0)
TRAINED_IN_FULL = 4  # the first candidate of every fourth batch shows its accuracy after full training, to all methods
EXPANSIONS = (1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Bounds:
    """1r of a landscape: an accuracy, and bounds on exact costs."""

    accuracy_bound: float | None
    upper: tuple[tuple[str, float], ...] = ()
    lower: tuple[tuple[str, float], ...] = ()
    validation_images: int | None = None

    def cost_slack(self, costs: dict[str, FloatArray]) -> FloatArray:
        slack = [(bound - costs[name]) / bound for name, bound in self.upper]
        slack += [(costs[name] - bound) / bound for name, bound in self.lower]
        return np.stack(slack, axis=1) if slack else np.zeros((len(costs["params"]), 0))


class LandscapeSpace:
    """Stages of blocks: a width a stage; a block's operator, expansion and whether it is kept."""

    def __init__(self, random: np.random.Generator):
        self.stages = int(random.integers(2, 5))
        self.blocks = int(random.integers(2, 5))
        widths = int(random.integers(5, 9))
        expansions = int(random.integers(2, 5))
        operators = int(random.integers(3, 6))
        self.with_expansion = bool(random.random() < 0.7) or self.stages * self.blocks < 8
        self.resolution = int(random.choice([16, 32]))
        self.widest = 16.0 * 2 ** np.arange(self.stages)
        self.ratios = np.array(WIDTHS[-widths:])
        self.expansions = np.array(EXPANSIONS[:expansions])
        self.operators = np.arange(5)[-operators:]
        sites, total = [], self.stages * self.blocks
        sites.append(Site("stem/width", "width", tuple(f"{r:g}" for r in self.ratios), True, (0.0, 0.5, 0.1, 1.0)))
        for s in range(self.stages):
            about = ((s * self.blocks + 1) / (total + 1), (s + 1) / self.stages, 0.3, 0.5**s)
            sites.append(Site(f"stage{s}/width", "width", tuple(f"{r:g}" for r in self.ratios), True, about))
        for b in range(total):
            s = b // self.blocks
            about = ((b + 1) / (total + 1), (s + 1) / self.stages, 0.5 * 4.0**s / 4.0**self.stages, 0.5**s)
            names = tuple(OPERATORS[o] for o in self.operators)
            sites.append(Site(f"stage{s}.block{b}/operator", "operator", names, False, about))
            if self.with_expansion:
                values = tuple(f"{e:g}" for e in self.expansions)
                sites.append(Site(f"stage{s}.block{b}/expansion", "expansion", values, True, about))
            if b % self.blocks:  # the first block of a stage carries the change of width
                sites.append(Site(f"stage{s}.block{b}/keep", "block", ("drop", "keep"), True, about))
        self.sites = tuple(sites)
        self.counts = choice_counts(self.sites)
        index = {site.name: j for j, site in enumerate(self.sites)}
        self.width_at = [index["stem/width"]] + [index[f"stage{s}/width"] for s in range(self.stages)]
        at = [f"stage{b // self.blocks}.block{b}" for b in range(total)]
        self.operator_at = [index[f"{name}/operator"] for name in at]
        self.expansion_at = [index.get(f"{name}/expansion", -1) for name in at]
        self.keep_at = [index.get(f"{name}/keep", -1) for name in at]

    def _layout(self, d: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, FloatArray]:
        """Per block: width in, width out, expansion, operator, kept; each [n, blocks]."""
        width = [np.maximum(2.0, np.round(16.0 * self.ratios[d[:, self.width_at[0]]]))]
        width += [
            np.maximum(2.0, np.round(self.widest[s] * self.ratios[d[:, self.width_at[s + 1]]]))
            for s in range(self.stages)
        ]
        columns = []
        for b in range(self.stages * self.blocks):
            s = b // self.blocks
            into = width[s] if b % self.blocks == 0 else width[s + 1]
            expansion = self.expansions[d[:, self.expansion_at[b]]] if self.expansion_at[b] >= 0 else np.ones(len(d))
            kept = d[:, self.keep_at[b]].astype(float) if self.keep_at[b] >= 0 else np.ones(len(d))
            columns.append((into, width[s + 1], expansion, self.operators[d[:, self.operator_at[b]]], kept))
        parts = [np.stack(part, axis=1) for part in zip(*columns, strict=True)]
        return parts[0], parts[1], parts[2], parts[3].astype(np.int64), parts[4]

    def costs(self, decisions: IntArray) -> dict[str, FloatArray]:
        into, out, expansion, operator, kept = self._layout(decisions)
        middle = into * expansion
        table = np.stack([
            into * out * expansion,
            9 * into * out * expansion / 4,
            9 * into + into * out * expansion,
            into * middle + 9 * middle + middle * out,
            9 * into * out * expansion,
        ])  # fmt: skip
        params = np.take_along_axis(table, operator[None], axis=0)[0] * kept
        stage = np.arange(self.stages * self.blocks) // self.blocks
        macs = params * (self.resolution / 2.0**stage) ** 2
        stem = 27 * into[:, 0]
        total_params = params.sum(1) + stem + 10 * out[:, -1]
        total_macs = macs.sum(1) + stem * self.resolution**2 + 10 * out[:, -1]
        millijoules = 0.5 + 0.05 * kept.sum(1) + 0.3 * total_macs / 1e6 + 0.05 * (out * kept).sum(1) / 100
        return {"params": total_params, "macs": total_macs, "img_per_joule@8": 1e3 / millijoules}

    def summary(self, decisions: IntArray) -> FloatArray:
        into, out, expansion, operator, kept = self._layout(decisions)
        share = np.stack([((operator == o) * kept).sum(1) / kept.sum(1) for o in range(5)], axis=1)
        log_out = np.log2(out)
        costs = self.costs(decisions)
        whole = np.stack([
            np.log(costs["params"]) / 2, np.log(costs["macs"]) / 2, kept.mean(1) * 3, (expansion * kept).mean(1),
            log_out.mean(1), np.min(log_out, axis=1), np.log2(into[:, 0]),
        ], axis=1)  # fmt: skip
        return np.concatenate([whole, 2 * share], axis=1)

    def canonical(self, decisions: IntArray) -> IntArray:
        fixed = np.array(decisions, dtype=np.int64, copy=True)
        for b, keep in enumerate(self.keep_at):
            if keep >= 0:
                dropped = fixed[:, keep] == 0
                fixed[dropped, self.operator_at[b]] = 0
                if self.expansion_at[b] >= 0:
                    fixed[dropped, self.expansion_at[b]] = 0
        return fixed


class Landscape:
    """A problem of the cycle whose truth is known. `evaluate` adds the noise of one training; it is deterministic in
    (landscape, run seed, cycle, position in the batch)."""

    def __init__(self, family: str, number: int, run_seed: int = 0):
        self.family, self.number, self.run_seed = family, number, run_seed
        random = np.random.default_rng([FAMILIES.index(family), number, 77])
        self.space = LandscapeSpace(random)
        while not 18 <= len(self.space.sites) <= 50:
            self.space = LandscapeSpace(random)
        self.noise = float(random.uniform(0.05, 0.15))
        self._draw_damage(random)
        self._draw_interactions(random)
        self._draw_link(random)
        self._draw_requirements(random)
        self._draw_probes(random)

    # --- truth -----------------------------------------------------------------------------------------------------

    def _draw_damage(self, random: np.random.Generator) -> None:
        sites, most = self.space.sites, int(self.space.counts.max())
        self.damage = np.zeros((len(sites), most))
        self.deficit = np.zeros((len(sites), most))  # in [0, 1]: how much less than the parent's choice
        by_operator = np.sort(random.uniform(0.0, 1.0, 5))[::-1] * np.array([1.0, 0.7, 0.5, 0.35, 0.0])
        scale = {"width": 0.22, "operator": 0.09, "expansion": 0.06, "block": 0.07}
        for j, site in enumerate(sites):
            n = len(site.choices)
            weight = scale[site.kind] * random.lognormal(0.0, 0.8)
            if site.kind == "operator":
                deficit = by_operator[self.space.operators] + 0.3 * random.standard_normal(n)
                deficit = np.clip(deficit - deficit.min(), 0, None)
            else:
                position = np.arange(n) / (n - 1)
                deficit = (1 - position) ** random.uniform(1.0, 2.5)
            self.deficit[j, :n] = deficit / max(deficit.max(), 1e-9)
            self.damage[j, :n] = weight * self.deficit[j, :n]

    def _draw_interactions(self, random: np.random.Generator) -> None:
        n = len(self.space.sites)
        self.pairs: list[tuple[int, int, float]] = []
        self.triples: list[tuple[tuple[int, ...], FloatArray]] = []
        if self.family in ("neighbours", "misleading", "cliffs"):
            for j in range(n - 1):
                if random.random() < 0.7:
                    self.pairs.append((j, int(random.integers(j + 1, min(j + 5, n))), 0.10 * random.standard_normal()))
        if self.family == "epistasis":
            for _ in range(n):
                at = tuple(int(k) for k in random.choice(n, 3, replace=False))
                self.triples.append((at, 0.05 * random.standard_normal(tuple(self.space.counts[k] for k in at))))
        self.cliff_width = float(random.uniform(1.8, 2.8))
        self.cliff_depth = float(random.uniform(0.45, 0.65))
        self.curve = float(random.uniform(0.05, 0.15))  # what capacity as a whole is worth, per nat of parameters

    def log_loss(self, decisions: IntArray) -> FloatArray:
        """[n] true log loss after the short training: damages add up from the parent's, towards chance level."""
        d = self.space.canonical(decisions)
        index = np.arange(d.shape[1])[None, :]
        deficit = self.deficit[index, d]
        total = self.damage[index, d].sum(axis=1)
        total -= self.curve * (np.log(self.space.costs(d)["params"]) - self.parent_log_params)
        for a, b, weight in self.pairs:
            total += weight * deficit[:, a] * deficit[:, b]
        for at, table in self.triples:
            total += table[tuple(d[:, k] for k in at)]
        if self.family == "cliffs":
            _, out, _, _, kept = self.space._layout(d)
            narrow = np.log2(out).min(axis=1)
            total += 0.45 / (1 + np.exp((narrow - self.cliff_width) / 0.08))
            total += 0.4 / (1 + np.exp((kept.mean(axis=1) - self.cliff_depth) / 0.03))
        return self.level + self.reach * (1 - np.exp(-np.maximum(total - self.base, -1.0) / self.reach))

    def _draw_link(self, random: np.random.Generator) -> None:
        self.level, self.base, self.reach = float(random.uniform(-2.0, -1.2)), 0.0, 1e6
        parent = (self.space.counts - 1)[None, :]
        self.parent_log_params = float(np.log(self.space.costs(parent)["params"])[0])
        self.base = float(self.log_loss(parent)[0]) - self.level
        self.reach = 0.8 - self.level
        self.short_level, self.short_slope = random.uniform(-1.3, -0.9), random.uniform(0.8, 1.0)
        self.gain, self.tilt = random.uniform(-0.5, -0.1), random.uniform(-0.1, 0.1)
        self.hash_weights = random.standard_normal((4, len(self.space.sites)))

    def accuracy(self, decisions: IntArray) -> FloatArray:
        """[n] true accuracy after full training: a line in the log loss, with a scatter that is each network's own."""
        d = self.space.canonical(decisions)
        own = np.sin(d @ self.hash_weights.T * 7.0).sum(axis=1) * 0.04 / np.sqrt(2.0)
        loss = self.log_loss(d)
        error = self.short_level + self.short_slope * loss + self.gain + self.tilt * (loss + 1.0) + own
        return 1.0 - np.minimum(np.exp(error), 0.95)

    def _draw_requirements(self, random: np.random.Generator) -> None:
        """An error 1.6 to 3.5 times the parent's, as in the paper (94 to 89 %), and bounds on costs somewhat
        above those of a greedy shrinking of the parent with the truth in hand, so that all can hold at once."""
        parent = (self.space.counts - 1)[None, :]
        error = float(1 - self.accuracy(parent)[0]) * random.uniform(1.6, 3.5)
        self.accuracy_bound = 1 - min(error, 0.6)
        self.requirements = Bounds(self.accuracy_bound)
        self.witness = self._shrink()
        costs = self.space.costs(self.witness[None, :])
        upper, lower = [], []
        if random.random() < 0.6:
            upper.append(("macs", float(costs["macs"][0] * np.exp(random.uniform(0.3, 2.5)))))
        if random.random() < 0.4:
            upper.append(("params", float(costs["params"][0] * np.exp(random.uniform(0.3, 2.5)))))
        if random.random() < 0.4:
            lower.append(("img_per_joule@8", float(costs["img_per_joule@8"][0] / np.exp(random.uniform(0.2, 1.0)))))
        self.requirements = Bounds(self.accuracy_bound, tuple(upper), tuple(lower))

    def _shrink(self) -> IntArray:
        """[sites] from the parent, the change that gains most U per loss, until the accuracy would break its bound."""
        now = self.space.counts - 1
        single = [(j, c) for j, n in enumerate(self.space.counts) for c in range(n)]
        while True:
            near = np.repeat(now[None, :], len(single), axis=0)
            near[np.arange(len(single)), [j for j, _ in single]] = [c for _, c in single]
            near = self.space.canonical(near)
            gain = self.truth(near) - self.truth(now[None, :])[0]
            harm = np.maximum(self.log_loss(near) - self.log_loss(now[None, :])[0], 0.01)
            if gain.max() <= 1e-9:
                return now
            now = near[int(np.argmax(np.where(gain > 1e-9, gain / harm, -np.inf)))]

    def truth(self, decisions: IntArray) -> FloatArray:
        """[n] U where 1r holds, -inf where it does not."""
        d = self.space.canonical(decisions)
        costs, accuracy = self.space.costs(d), self.accuracy(d)
        slack = self.requirements.cost_slack(costs)
        holds = (accuracy >= self.accuracy_bound) & (slack >= 0).all(axis=1)
        return np.where(holds, performance(accuracy, costs), -np.inf)

    # --- what the cycle sees ---------------------------------------------------------------------------------------

    def _draw_probes(self, random: np.random.Generator) -> None:
        """Three statistics over (site, choice): damage of a swap in the parent without training (overstated, noisy),
        rank deficit, label dependence. Every choice was probed at two sites of three."""
        table = ProbeTable(self.space.sites, ("swap damage", "rank deficit", "label dependence"), (1, 1, -1))
        order = np.arange(len(self.space.sites))
        flip = np.ones(len(order))
        if self.family == "misleading":
            for kind in sorted({site.kind for site in self.space.sites}):
                at = np.array([j for j, site in enumerate(self.space.sites) if site.kind == kind])
                order[at] = random.permutation(at)
            flip = np.where(random.random(len(order)) < 0.3, -1.0, 1.0)
        for j, site in enumerate(self.space.sites):
            exaggeration = random.lognormal(0.7, 0.5)
            for c in range(len(site.choices)):
                damage = flip[j] * self.damage[order[j], c] if c < len(self.space.sites[order[j]].choices) else 0.0
                swap = exaggeration * damage + 0.05 * random.standard_normal()
                rank = 0.5 * damage + 0.08 * random.standard_normal()
                label = -0.5 * damage + 0.10 * random.standard_normal()
                if random.random() < 0.67:
                    table.record(j, c, (swap, rank, label))
        self.table = table

    def probe_table(self) -> ProbeTable:
        return self.table

    def anchors(self) -> list[Decisions]:
        """What is there before any search: the parent, and slices of it towards smaller costs; each was trained in
        full, so that the link is known as well as on real networks."""
        last = self.space.counts - 1
        levels = [last]
        for share in (0.66, 0.4):
            level = last.copy()
            for j, site in enumerate(self.space.sites):
                if site.ordered and site.kind != "block":
                    level[j] = round(share * last[j])
                elif site.kind == "operator":
                    level[j] = int(np.flatnonzero(self.space.operators >= 2)[0])
            levels.append(level)
        return [tuple(int(c) for c in self.space.canonical(level[None, :])[0]) for level in levels]

    def initial(self) -> list[Observation]:
        anchors = self.anchors()
        final = self.accuracy(rows(anchors, len(self.space.sites)))
        seen = self.observe(np.random.default_rng([self.number, self.run_seed, 999]), anchors)
        return [Observation(o.decisions, o.log_loss, o.log_loss_se, o.accuracy, float(a))
                for o, a in zip(seen, final, strict=True)]  # fmt: skip

    def observe(self, random: np.random.Generator, batch: Sequence[Decisions]) -> list[Observation]:
        loss = self.log_loss(rows(batch, len(self.space.sites))) + self.noise * random.standard_normal(len(batch))
        error = self.short_level + self.short_slope * loss + 0.05 * random.standard_normal(len(batch))
        accuracy = 1 - np.minimum(np.exp(error), 0.95)
        return [Observation(tuple(d), float(v), self.noise, float(a))
                for d, v, a in zip(batch, loss, accuracy, strict=True)]  # fmt: skip

    def evaluate(self, cycle: int, batch: Sequence[Decisions]) -> list[Observation]:
        seen = self.observe(np.random.default_rng([self.number, self.run_seed, cycle]), batch)
        if cycle % TRAINED_IN_FULL == TRAINED_IN_FULL - 1:
            final = float(self.accuracy(rows(batch[:1], len(self.space.sites)))[0])
            seen[0] = dataclasses.replace(seen[0], final_accuracy=final)
        return seen

    def end_cycle(self, cycle: int, state: object) -> None:
        """Nothing is kept of a landscape."""

    # --- the optimum -----------------------------------------------------------------------------------------------

    def optimum(self, restarts: int = 8, steps: int = 45) -> tuple[float, Decisions]:
        """The best U under 1r that a long search with the truth in hand finds: climbs from random and annealed starts
        over single changes and random pairs. A lower bound of the optimum, tight in practice."""
        random = np.random.default_rng([self.number, 4242])
        best, best_value = tuple(int(c) for c in self.witness), float(self.truth(self.witness[None, :])[0])
        sites, counts = np.arange(len(self.space.sites)), self.space.counts
        single = [(j, c) for j in sites for c in range(counts[j])]
        for restart in range(restarts):
            now = random.integers(0, counts) if restart % 2 else counts - 1
            value = self._guide(now[None, :])[0]
            heat = 2.0
            for step in range(steps):
                near = np.repeat(now[None, :], len(single) + 600, axis=0)
                for row, (j, c) in enumerate(single):
                    near[row, j] = c
                for _ in range(2 + (step % 3 == 2)):
                    at = random.integers(0, len(sites), 600)
                    near[len(single) + np.arange(600), at] = random.integers(0, counts[at])
                scores = self._guide(near)
                noisy = scores + heat * random.gumbel(size=len(near)) * 0.3
                pick = int(np.argmax(noisy)) if heat > 0.05 else int(np.argmax(scores))
                if heat <= 0.05 and scores[pick] <= value + 1e-9 and step > steps - 15:
                    break
                now, value = near[pick], scores[pick]
                top = int(np.argmax(scores))
                exact = self.truth(near[top][None, :])[0]
                if exact > best_value:
                    best_value, best = float(exact), tuple(int(c) for c in self.space.canonical(near[top][None, :])[0])
                heat *= 0.9
        return best_value, best

    def _guide(self, decisions: IntArray) -> FloatArray:
        """U less a steep price for what breaks 1r, so that a climb finds the edge."""
        d = self.space.canonical(decisions)
        costs, accuracy = self.space.costs(d), self.accuracy(d)
        short = np.maximum(np.log(1 - accuracy) - np.log(1 - self.accuracy_bound), 0.0)
        slack = np.minimum(self.requirements.cost_slack(costs), 0.0).sum(axis=1)
        return performance(accuracy, costs) - 100 * short + 100 * slack
