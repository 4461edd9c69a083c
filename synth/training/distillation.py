"""What a teacher says to augmented views, computed once for all students that will see the same views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from synth.data.augmentation import generator_for
from synth.data.dataset import Split
from synth.training.precision import answers, layout
from synth.training.recipe import Recipe

LOGITS = "edgesynth.logits/1"  # the schema of a file of them


class Committee(nn.Module):
    """Networks that teach together: the log of the mean of their probabilities, (N, classes), is what they answer."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        each = torch.stack([member(images).float().log_softmax(dim=1) for member in self.members])
        return each.logsumexp(dim=0) - math.log(len(each))


@torch.no_grad()
def teacher_logits(
    teacher: nn.Module, split: Split, recipe: Recipe, *, view_seed: int, precision: str = "fp32", batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """float32 [different views, N, classes]: the teacher's logits on the views that `training.train` with this recipe
    and `view_seed` shows in each epoch, by row of the split. The teacher is left in evaluation mode. precision: of the
    teacher, as in its own recipe. progress: (views done, views in all)."""
    teacher.eval()
    device = next(teacher.parameters()).device
    epochs = []
    for epoch in range(recipe.different_views):
        drawn = recipe.augmentation.draw(len(split), generator_for(view_seed, epoch, "views"))
        parts = []
        for start in range(0, len(split), batch):
            rows = slice(start, start + batch)
            views = recipe.augmentation.apply(split.images[rows].to(device), drawn[rows].to(device))
            views = views.contiguous(memory_format=layout(precision, device.type))
            parts.append(answers(teacher, views, precision).float().cpu())
        epochs.append(torch.cat(parts))
        if progress is not None:
            progress(epoch + 1, recipe.different_views)
    return torch.stack(epochs)
