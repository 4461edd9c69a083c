"""G(s; θ_G): turns a seed into the decisions of a network.

A seed gives, by hashing alone, a latent z ∈ R^8 (Gaussian) and a preference u ∈ [0, 1]^3 (how accurate, how small, how
frugal). A small network over [site embedding, site descriptor], modulated by (z, u), gives a location and a scale for
ordered sites and logits for the others; G takes the most likely choice. The same seed and θ_G give the same decisions.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from devices.support import files
from devices.support.errors import UserError
from synth.search.decisions import FloatArray, IntArray, Site, choice_counts

LATENT = 8
SCHEMA = "edgesynth.generator/2"
PREFERENCES = 3  # how accurate, how small, how frugal
# additive recurrence of the root of x^4 = x + 1: consecutive seeds fill the unit cube evenly (Roberts 2018, "R3")
ROOT = 1.2207440846057596
STRIDE = tuple(ROOT**-power for power in range(1, PREFERENCES + 1))


def latent(seed: int) -> FloatArray:
    """[8] standard Gaussian numbers that belong to this seed."""
    normal = NormalDist()
    numbers = []
    for index in range(LATENT):
        digest = hashlib.sha256(f"edgesynth {seed} {index}".encode()).digest()
        numbers.append(normal.inv_cdf((int.from_bytes(digest[:6], "big") + 0.5) / 2**48))
    return np.array(numbers)


def preference(seed: int) -> FloatArray:
    """[3] in [0, 1): how accurate, how small and how frugal, stratified over consecutive seeds."""
    return np.array([math.modf(0.5 + (seed % 2**32) * stride)[0] for stride in STRIDE])


class Generator(nn.Module):
    """θ_G and G. Runs in float64 on the CPU: it is small, and its argmax must not depend on rounding.

    sites: of the space. width: of the hidden layers. seed: of θ_G's initial values.
    """

    descriptors: Tensor
    exists: Tensor
    ordered: Tensor
    position: Tensor
    last: Tensor

    def __init__(self, sites: Sequence[Site], width: int = 32, seed: int = 0):
        super().__init__()
        self.sites = tuple(sites)
        self.width = width
        self.counts = choice_counts(sites)
        self.most = int(self.counts.max())
        self.random = torch.Generator().manual_seed(seed)
        descriptors = torch.tensor([site.descriptor for site in sites], dtype=torch.float64)
        spread = descriptors.std(0, correction=0) if len(sites) > 1 else torch.zeros(descriptors.shape[1])
        descriptors = (descriptors - descriptors.mean(0)) / torch.where(spread > 1e-9, spread, 1.0)
        position = torch.arange(self.most, dtype=torch.float64)
        self.register_buffer("descriptors", descriptors, persistent=False)
        self.register_buffer("exists", position < torch.tensor(self.counts)[:, None], persistent=False)
        self.register_buffer("ordered", torch.tensor([site.ordered for site in sites]), persistent=False)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("last", torch.tensor(self.counts - 1, dtype=torch.float64), persistent=False)
        shape = (len(sites), width)
        self.embedding = self._normal(shape, 1.0)
        self.from_descriptor = self._normal((descriptors.shape[1], width), 0.5 / max(descriptors.shape[1], 1) ** 0.5)
        self.to_film = self._normal((LATENT + PREFERENCES, width), 1.0 / LATENT**0.5)
        self.film_scale = self._normal((width, width), 1.0 / width**0.5)
        self.film_shift = self._normal((width, width), 0.5 / width**0.5)
        self.hidden = self._normal((width, width), 1.0 / width**0.5)
        self.to_logits = self._normal((width, self.most), 0.7 / width**0.5)
        self.to_location = self._normal((width, 1), 0.7 / width**0.5)
        self.to_scale = self._normal((width, 1), 0.1 / width**0.5)
        self.bias = nn.Parameter(torch.zeros(len(sites), self.most, dtype=torch.float64))
        self.location = nn.Parameter(torch.zeros(len(sites), dtype=torch.float64))
        self.scale = nn.Parameter(torch.zeros(len(sites), dtype=torch.float64))

    def _normal(self, shape: tuple[int, int], sd: float) -> nn.Parameter:
        return nn.Parameter(sd * torch.randn(shape, generator=self.random, dtype=torch.float64))

    def log_probabilities(self, latents: Tensor, preferences: Tensor) -> Tensor:
        """[n, sites, max_choices] for latents [n, 8] and preferences [n, 3]; -inf for choices that do not exist."""
        sites = torch.tanh(self.embedding + self.descriptors @ self.from_descriptor)
        film = torch.tanh(torch.cat([latents, 3 * preferences - 1.5], dim=1) @ self.to_film)
        gain, shift = film @ self.film_scale, film @ self.film_shift
        hidden = sites[None] * gain[:, None, :] + shift[:, None, :]
        hidden = torch.tanh(hidden @ self.hidden) + hidden
        location = self.last * torch.sigmoid((hidden @ self.to_location)[..., 0] + self.location)
        scale = 0.25 + 0.75 * torch.sigmoid((hidden @ self.to_scale)[..., 0] + self.scale)
        spread = (scale * (0.3 + 0.2 * self.last))[..., None]
        bell = -0.5 * ((self.position - location[..., None]) / spread) ** 2
        free = hidden @ self.to_logits + self.bias
        logits = torch.where(self.ordered[:, None], bell, free)
        return torch.log_softmax(logits.masked_fill(~self.exists, -torch.inf), dim=-1)

    def conditions(self, seeds: Iterable[int], prefer: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """Latents [n, 8] and preferences [n, 3] of seeds; `prefer` replaces the seeds' own preference."""
        seeds = list(seeds)
        latents = np.array([latent(seed) for seed in seeds]).reshape(-1, LATENT)
        wishes = [preference(seed) if prefer is None else np.asarray(prefer, dtype=np.float64) for seed in seeds]
        return torch.from_numpy(latents), torch.from_numpy(np.array(wishes).reshape(-1, PREFERENCES))

    def generate(self, seeds: Iterable[int], prefer: Sequence[float] | None = None) -> IntArray:
        """G(s): [n, sites] decisions, one row a seed."""
        with torch.no_grad():
            choice: IntArray = self.log_probabilities(*self.conditions(seeds, prefer)).argmax(dim=-1).numpy()
        return choice

    def aim(self, cost: Callable[[IntArray], FloatArray], low: float, high: float, seeds: Sequence[int]) -> float:
        """Move θ_G so that the median of `cost` over the seeds lies within [low, high]; returns the median reached.

        cost: log cost [n] of decisions [n, sites]. Each site leans towards its cheap or dear choices by one common
        amount, found by bisection; what a choice costs is told by swapping it alone in the middle network.
        """
        middle = self.counts // 2
        swapped = np.repeat(middle[None, :], self.most * len(self.sites), axis=0)
        sites, choices = np.divmod(np.arange(len(swapped)), self.most)
        swapped[np.arange(len(swapped)), sites] = np.minimum(choices, self.counts[sites] - 1)
        dear = torch.from_numpy(cost(swapped).reshape(len(self.sites), self.most))
        dear = dear - dear.mean(dim=1, keepdim=True)
        dear = dear / dear.abs().amax(dim=1, keepdim=True).clamp_min(1e-9)  # every site leans alike

        def lean(amount: float) -> float:
            with torch.no_grad():
                self.bias.copy_(1.5 * amount * dear)
                self.location.fill_(1.5 * amount)
            return float(np.median(cost(self.generate(seeds))))

        below, above, reached = -6.0, 6.0, lean(0.0)
        for _ in range(24):
            if low <= reached <= high:
                break
            amount = 0.5 * (below + above)
            reached = lean(amount)
            below, above = (amount, above) if reached < low else (below, amount)
        return reached

    def vector(self) -> Tensor:
        """θ_G as one vector, without gradient."""
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()

    def move(self, step: Tensor) -> None:
        """θ_G ← θ_G + Δθ_G."""
        nn.utils.vector_to_parameters(self.vector() + step, self.parameters())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write generator.safetensors (θ_G) and generator.json (the sites it decides on) into `folder`."""
        data = safetensors.torch.save({name: value.contiguous() for name, value in self.state_dict().items()})
        files.write_bytes(os.path.join(folder, "generator.safetensors"), data)
        sites = [[s.name, s.kind, list(s.choices), s.ordered, list(s.descriptor)] for s in self.sites]
        about = {"width": self.width, "weights_sha256": files.sha256_bytes(data), "sites": sites}
        files.write_json(os.path.join(folder, "generator.json"), about, SCHEMA)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Generator:
        """The generator that `save` wrote. UserError when a file is missing or damaged."""
        about = files.read_json(os.path.join(folder, "generator.json"), SCHEMA)
        path = os.path.join(folder, "generator.safetensors")
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise files.explain(error, path) from error
        if files.sha256_bytes(data) != about.get("weights_sha256"):
            raise UserError(f"{path}: these are not the weights that generator.json names; restore both files")
        try:
            sites = [Site(name, kind, tuple(c), ordered, tuple(d)) for name, kind, c, ordered, d in about["sites"]]
            generator = cls(sites, about["width"])
            generator.load_state_dict(safetensors.torch.load(data))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path}: does not fit generator.json ({error}); restore both files") from error
        return generator
