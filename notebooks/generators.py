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
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import models
from app.cohort import read_recipe
from app.cohort_generated import on_lattice
from app.drawer import Drawer, draw, lattice_of, read_drawer
from synth.case import subject_of
from synth.conditions import N_CLASSES, TUMOUR, box_planes, from_drawn_bits, planes
from synth.recipe import fingerprint

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

# %% [markdown]
# ## Volumes: four contrasts from the labels of every voxel
#
# The labels of a synthetic patient that no generator was trained on, and what is drawn for them: 64³ voxels
# of 3 mm, the slice with the most tumour.

# %%
VOLUMES = {
    "diffusion, 1 shortcut step": ("diffusion-small", "shortcut", 1),
    "diffusion, 4 shortcut steps": ("diffusion-small", "shortcut", 4),
    "GAN, 1 step": ("gan-small", None, 0),
}
recipe = read_recipe("small")
subject, _ = subject_of(recipe, fingerprint(recipe), 2026, 0, ())
classes, _ = on_lattice(subject.labels, lattice_of(read_drawer(ZOO / "diffusion-small")))
k = int((classes >= min(TUMOUR)).sum((0, 1)).argmax())


CLASSES = {"cmap": "nipy_spectral", "vmin": 0, "vmax": N_CLASSES - 1, "interpolation": "nearest"}


def flat(volume: torch.Tensor) -> torch.Tensor:
    """Its slice ``k``, the front of the head upwards."""
    return volume[..., k].T.flip(0)


figure, axes = plt.subplots(len(VOLUMES), 5, figsize=(8, 1.8 * len(VOLUMES)))
for row, (title, (name, sampler, steps)) in zip(axes, VOLUMES.items(), strict=True):
    drawer = read_drawer(ZOO / name, sampler, steps)
    volume = draw(drawer, planes(classes[None])[0], torch.Generator().manual_seed(0))
    row[0].imshow(flat(classes), **CLASSES)
    row[0].set_title(title, fontsize=7)
    for axis, contrast, word in zip(row[1:], volume, ("T1", "T1c", "T2", "FLAIR"), strict=True):
        axis.imshow(flat(contrast), cmap="gray", vmin=-1, vmax=1)
        axis.set_title(word, fontsize=7)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# Whole patients: label maps drawn from noise alone, which the generators above then fill. They are rough:
# an hour on one core teaches heads and tumours, not yet sulci, and tumours are too small.

# %%
labeller = read_drawer(ZOO / "labels-small")
side = lattice_of(labeller).shape
figure, axes = plt.subplots(2, 6, figsize=(8, 2.9))
for seed, (above, below) in enumerate(axes.T):
    noise = torch.Generator().manual_seed(seed)
    drawn_classes = from_drawn_bits(draw(labeller, torch.zeros(0, *side), noise)[None])[0]
    k = int((drawn_classes >= min(TUMOUR)).sum((0, 1)).argmax())
    image = draw(read_drawer(ZOO / "gan-small"), planes(drawn_classes[None])[0], noise)
    above.imshow(flat(drawn_classes), **CLASSES)
    below.imshow(flat(image[1]), cmap="gray", vmin=-1, vmax=1)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()

# %% [markdown]
# ## Do volumes show what was asked for, and is it worth training with?
#
# A judge, which learned from physical volumes alone, finds each part of the tumour in what is drawn; the
# best that it can do is what it finds in physical volumes. Segmenters learn with equal steps from physical
# volumes, from drawn ones, or from both, and are tested on physical volumes that nobody saw.

# %%
volumes = json.loads((RESULTS / "generator_volumes.json").read_text())["figures"]
PARTS = tuple(volumes["real_dice"])
print(f"{'Dice of the judge':<40}" + "".join(f"{part:>8}" for part in PARTS) + f"{'diversity':>11}")
print(f"{'physical volumes':<40}" + "".join(f"{volumes['real_dice'][p]:>8.2f}" for p in PARTS) + f"{1:>11}")
judged = {
    f"{kind}, {volumes[kind]['sampler']}, {volumes[kind]['steps']} steps": volumes[kind]
    for kind in ("gan", "diffusion")
} | {f"diffusion, {how}": found for how, found in volumes["diffusion"]["with_more_steps"].items()}
for title, found in judged.items():
    dice = "".join(f"{found['obedience'][part]:>8.2f}" for part in PARTS)
    print(f"{title:<40}{dice}{found['diversity_ratio']:>11.2f}")
print(f"\n{'Dice of segmenters, by seed':<40}")
print(f"{'physical only':<40}", volumes["real"]["dice_by_seed"])
for kind, arm in product(("gan", "diffusion"), ("synthetic", "both")):
    print(f"{f'{arm}, {kind}':<40}", volumes[kind][arm]["dice_by_seed"])

# %% [markdown]
# Beside what others found. Their networks, data and tasks differ, so this places the figures and no more:
# segmentation trained on synthetic tumours alone reached 80 to 90 % of the Dice of real training (Akbar et
# al. 2024) and 95 % (Med-DDPM, 0.6207 of 0.6531).

# %%
print(f"{'synthetic only over real':<34}{'GAN':>8}{'diffusion':>12}")
for title, found in (("kind of tumour, real slices", slices), ("segmentation, physical volumes", volumes)):
    values = [found[kind]["synthetic_only_over_real"] for kind in ("gan", "diffusion")]
    print(f"{title:<34}{values[0]:>8.2f}{values[1]:>12.2f}")
