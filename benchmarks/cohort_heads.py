"""The network trained on synthetic heads alone, on real heads it never saw.

Colin27 and the MNI152 template are scored; the four contrasts of a clinical scan with a tumour are drawn
for a reader, with the volume found in each: they have no labels. Baseline on Colin27: the registered prior
that the patient's walk uses, which needs no training.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from imaging.grid import around
from imaging.intensity import correct_bias, head_mask
from imaging.nifti import read_nifti
from imaging.register import fit
from imaging.resample import resample
from imaging.tissue import TUMOUR
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.tissue_classes import classify
from mr2ct.tissue_net import segment
from synth.anatomy import anatomy

from .real_heads import is_in, on_colin27, on_mni152

_ROOT = Path(__file__).parent
WEIGHTS = _ROOT.parent / "models" / "zoo" / "tissues.safetensors"
_TEMPLATE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
CONTRASTS = ("t1n", "t1c", "t2w", "t2f")


def template() -> Path | None:
    """The T1 template of nilearn, masked to the brain, if the peer's environment is built."""
    found = sorted(
        (_ROOT / "peer" / "synthesis" / ".venv" / "lib").glob(f"python3.*/site-packages/{_TEMPLATE}")
    )
    return found[0] if found else None


def shipped() -> nn.Module:
    """The network with the weights that ship."""
    config = dict(read_card(WEIGHTS)["config"])
    net = unet(UNetConfig(config["inputs"], config["outputs"], tuple(config["features"]))).eval()
    load_weights(net, WEIGHTS)
    return net


def scores(net: nn.Module, data: Path) -> dict[str, float | None]:
    """Dice on both heads."""
    colin = read_nifti(data / "head" / "colin27_t1.nii.gz", Quantity.MR)
    mni = read_nifti(data / "head" / "mni152_t1_unstripped.nii.gz", Quantity.MR)
    found = on_colin27(data / "head", segment(colin, net))
    brain = template()
    out: dict[str, float | None] = {f"{name}_dice_colin27": value for name, value in found.items()}
    out["brain_dice_mni152"] = on_mni152(brain, segment(mni, net)) if brain else None
    return out


def baseline(data: Path) -> dict[str, float]:
    """Dice of the registered prior on Colin27."""
    mr = read_nifti(data / "head" / "colin27_t1.nii.gz", Quantity.MR)
    head = head_mask(mr)
    mr = correct_bias(mr, head)
    return on_colin27(data / "head", classify(mr, head, fit(anatomy(1.5), mr, head)))


def pictures(net: nn.Module, data: Path, out: Path) -> dict[str, float]:
    """Draws all real heads with what was found in them; tumour volume (cc) by contrast."""
    head, clinical = data / "head", data / "tumour_mri" / "tcga_fg_6692"
    scans = {"Colin27": head / "colin27_t1.nii.gz", "MNI152": head / "mni152_t1_unstripped.nii.gz"}
    scans |= {f"clinical {name}": clinical / f"{name}.nii.gz" for name in CONTRASTS}
    figure = Figure(figsize=(11, 2.6 * len(scans)), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scans), 4)
    volumes: dict[str, float] = {}
    for row, (name, path) in zip(axes, scans.items(), strict=True):
        mr = read_nifti(path, Quantity.MR)
        labels = segment(mr, net)
        volumes[name] = float(is_in(labels.data[0], *TUMOUR).sum()) * mr.grid.voxel_volume / 1000
        _draw(row, name, mr, labels)
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})
    return {name.removeprefix("clinical "): cc for name, cc in volumes.items() if name.startswith("clinical")}


def _draw(row: np.ndarray, name: str, mr: Volume, labels: Volume) -> None:
    grid = around(mr.grid, (1.0, 1.0, 1.0))
    image, found = resample(mr, grid).data[0], resample(labels, grid).data[0]
    tumour = is_in(found, *TUMOUR)
    k = int(tumour.sum((0, 1)).argmax()) if tumour.any() else image.shape[2] // 2
    i = image.shape[0] // 2
    planes = ((image[:, :, k].T, found[:, :, k].T), (image[i].T.flip(0), found[i].T.flip(0)))
    for n, (gray, colors) in enumerate(planes):
        row[2 * n].imshow(gray, cmap="gray")
        row[2 * n + 1].imshow(colors, cmap="nipy_spectral", vmin=0, vmax=13, interpolation="nearest")
    row[0].set_title(name, fontsize=8)
    for ax in row:
        ax.set_axis_off()


def found() -> Mapping[str, object]:
    """Figures of the shipped weights, with the baseline's."""
    data = Path(os.environ["SPINDOSE_DATA"])
    net = shipped()
    started = time.perf_counter()
    own = scores(net, data)
    seconds = (time.perf_counter() - started) / 2
    tumour = pictures(net, data, _ROOT / "results" / "cohort_heads.png")
    return {
        **own,
        "seconds_per_head": seconds,
        "tumour_cc": tumour,
        "registered_prior_colin27": baseline(data),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(found()))
    sys.exit(0)
