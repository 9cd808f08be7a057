# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Learned generators: what they draw, how good and how private it is, and what it is worth
#
# A GAN and a diffusion, trained on the same real slices with the same time, and judged on patients that
# neither saw. Every figure stands beside what real images give. The figures come from
# `python -m benchmarks.generators`; the pictures are drawn here, from the weights that ship.
#
# Research use only: not a medical device. Nothing drawn here shows a patient.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import models
from app.drawer import Drawer, draw, read_drawer
from synth.conditions import box_planes

ROOT = Path(next(iter(models.__path__))).parent
ZOO, RESULTS = ROOT / "models" / "zoo", ROOT / "benchmarks" / "results"
KINDS = {
    "diffusion, 15 steps of Heun": ("diffusion-slices", "heun", 15),
    "diffusion, 4 shortcut steps": ("diffusion-slices", "shortcut", 4),
    "diffusion, 1 shortcut step": ("diffusion-slices", "shortcut", 1),
    "GAN, 1 step": ("gan-slices", None, 0),
}

# %% [markdown]
# ## What they draw
#
# The same noise and the same boxes for all: one column is one condition, a kind of tumour and where it lies.

# %%
CONDITIONS = [
    (0, 0.5, 0.55, 0.12, 0.12),
    (1, 0.62, 0.4, 0.2, 0.2),
    (2, 0.35, 0.5, 0.25, 0.25),
    (1, 0.3, 0.3, 0.12, 0.15),
]


def drawn(drawer: Drawer, seed: int) -> torch.Tensor:
    """One slice for each condition, side by side."""
    images = []
    for n, row in enumerate(CONDITIONS):
        planes = box_planes(torch.tensor([row]), drawer.settings.classes, (128, 128))
        images.append(draw(drawer, planes, torch.Generator().manual_seed(seed + n))[0])
    return torch.cat(images, dim=1)


figure, axes = plt.subplots(len(KINDS), 1, figsize=(8, 2 * len(KINDS)))
for axis, (title, (name, sampler, steps)) in zip(axes, KINDS.items(), strict=True):
    axis.imshow(drawn(read_drawer(ZOO / name, sampler, steps), 1), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## How good and how private
#
# The kernel distance and coverage of real halves are the floor: real patients differ from one another by as
# much. The memorised share is that of drawn images nearer to a training image than 99 % of held-out real ones
# are; the audit must flag a generator that was made to repeat its training images.

# %%
slices = json.loads((RESULTS / "generator_slices.json").read_text())["figures"]
ROWS = (
    "slice_kid",
    "slice_kid_real_floor",
    "slice_coverage",
    "slice_coverage_real_floor",
    "diversity_ratio",
    "memorised_share",
    "positive_control_caught",
    "seconds_per_slice",
    "synthetic_only_over_real",
    "both_over_real_at_10_percent",
)
print(f"{'':<32}{'GAN':>12}{'diffusion':>12}")
for row in ROWS:
    values = [slices[kind][row] for kind in ("gan", "diffusion")]
    print(f"{row:<32}" + "".join(f"{value:>12.4g}" for value in values))

# %% [markdown]
# ## What it is worth
#
# Readers of the tumour's kind and box, trained with equal steps on real slices, on synthetic ones, on both;
# tested on the same held-out patients. Dots are seeds.

# %%
FRACTIONS = ("10%", "25%", "100%")
figure, axis = plt.subplots(figsize=(6, 3.5))
lines = {"real": [slices["real"][f] for f in FRACTIONS]} | {
    f"both 1:1, {kind}": [slices[kind]["arms"][f"both 1:1, {f}"] for f in FRACTIONS]
    for kind in ("gan", "diffusion")
}
for n, (label, scores) in enumerate(lines.items()):
    axis.plot(range(3), [s["accuracy"] for s in scores], label=label, color=f"C{n}")
    for at, score in enumerate(scores):
        axis.plot([at] * len(score["accuracies"]), score["accuracies"], ".", color=f"C{n}")
for n, kind in enumerate(("gan", "diffusion"), start=1):
    axis.axhline(
        slices[kind]["synthetic_only"]["accuracy"], color=f"C{n}", ls=":", label=f"synthetic only, {kind}"
    )
axis.set_xticks(range(3), FRACTIONS)
axis.set_xlabel("share of the real slices")
axis.set_ylabel("balanced accuracy of the kind")
axis.legend(fontsize=7)
figure.tight_layout()
