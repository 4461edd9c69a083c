"""What a teacher says to augmented views, computed once for all students that will see the same views."""

from __future__ import annotations

import torch
from torch import nn

from synth.data.augmentation import generator_for
from synth.data.dataset import Split
from synth.recipe import Recipe


@torch.no_grad()
def teacher_logits(
    teacher: nn.Module, split: Split, recipe: Recipe, *, view_seed: int, batch: int = 256
) -> torch.Tensor:
    """float32 [epochs, N, classes]: the teacher's logits on the views that `training.train` with this recipe and
    `view_seed` shows in each epoch, by row of the split. The teacher is left in evaluation mode."""
    teacher.eval()
    device = next(teacher.parameters()).device
    epochs = []
    for epoch in range(recipe.epochs):
        drawn = recipe.augmentation.draw(len(split), generator_for(view_seed, epoch, "views"))
        parts = []
        for start in range(0, len(split), batch):
            rows = slice(start, start + batch)
            views = recipe.augmentation.apply(split.images[rows].to(device), drawn[rows].to(device))
            parts.append(teacher(views.contiguous(memory_format=torch.channels_last)).float().cpu())
        epochs.append(torch.cat(parts))
    return torch.stack(epochs)
