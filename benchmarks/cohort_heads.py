"""The network trained on synthetic heads alone, on real heads it never saw.

Colin27 and the MNI152 template are scored. A clinical scan with a tumour has no labels: the region that a
network of four contrasts finds in it is drawn for a reader, from all of them and from each alone. Baseline
on Colin27: the registered prior that the patient's walk uses, which needs no training.
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

from imaging.coregister import moved_onto
from imaging.grid import around, positions
from imaging.intensity import correct_bias, head_mask
from imaging.nifti import read_nifti
from imaging.register import fit
from imaging.resample import resample
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.tissue_classes import classify
from mr2ct.tissue_net import TissueNet, probabilities, segment
from mr2ct.tumour_region import tumour_region
from synth.anatomy import anatomy

from .real_heads import on_colin27, on_mni152

_ROOT = Path(__file__).parent
_ZOO = _ROOT.parent / "models" / "zoo"
WEIGHTS, TUMOUR_WEIGHTS = _ZOO / "tissues.safetensors", _ZOO / "tissues4.safetensors"
_TEMPLATE = "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
CONTRASTS = ("t1n", "t1c", "t2w", "t2f")


def template() -> Path | None:
    """The T1 template of nilearn, masked to the brain, if the peer's environment is built."""
    found = sorted(
        (_ROOT / "peer" / "synthesis" / ".venv" / "lib").glob(f"python3.*/site-packages/{_TEMPLATE}")
    )
    return found[0] if found else None


def shipped(weights: Path = WEIGHTS) -> nn.Module:
    """A network with weights that ship."""
    config = dict(read_card(weights)["config"])
    net = unet(UNetConfig(config["inputs"], config["outputs"], tuple(config["features"]))).eval()
    load_weights(net, weights)
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


def clinical(data: Path) -> Volume:
    """The four contrasts of a clinical scan with a tumour, brought together, on one upright grid of 1 mm."""
    paths = [data / "tumour_mri" / "tcga_fg_6692" / f"{name}.nii.gz" for name in CONTRASTS]
    *others, flair = [read_nifti(path, Quantity.MR) for path in paths]
    scans = [*(moved_onto(scan, flair) for scan in others), flair]  # the patient moved by centimetres
    grid = around(flair.grid, (1.0, 1.0, 1.0))
    return Volume(torch.cat([resample(scan, grid).data.float() for scan in scans]), grid, Quantity.MR)


def region_of(scan: Volume, net: nn.Module) -> Volume:
    """Tumour region that the network of four contrasts finds in them, or in those that are not all 0."""
    config = TissueNet(net=UNetConfig(inputs=len(scan.data)))
    return tumour_region(probabilities(scan, net, config), scan.grid)


def regions(data: Path, net: nn.Module, out: Path) -> Mapping[str, object]:
    """Draws the clinical scan with the tumour found from all four contrasts, and from each alone.

    Returns
    -------
    Mapping
        Volume (cc) and middle (LPS mm) of the region from all, and volumes from single contrasts.
    """
    scan = clinical(data)
    whole = region_of(scan, net)
    single = {}
    for c, name in enumerate(CONTRASTS):
        alone = torch.zeros_like(scan.data)
        alone[c] = scan.data[c]
        single[name] = region_of(Volume(alone, scan.grid, Quantity.MR), net)
    _draw_regions(scan, whole, single, out)
    voxels = whole.data[0].nonzero().double()
    middle = positions(scan.grid, voxels.mean(0, keepdim=True).numpy())[0] if len(voxels) else None
    return {
        "tumour_cc": _cc(whole),
        "tumour_middle_mm": None if middle is None else [round(float(v), 1) for v in middle],
        "tumour_cc_from_one": {name: _cc(region) for name, region in single.items()},
    }


def _cc(region: Volume) -> float:
    return float(region.data.sum()) * region.grid.voxel_volume / 1000


def _draw_regions(scan: Volume, whole: Volume, single: Mapping[str, Volume], out: Path) -> None:
    at = whole.data[0].sum((0, 1))
    middle = int(at.argmax()) if bool(at.any()) else scan.grid.shape[2] // 2
    planes = [min(max(middle + step, 0), scan.grid.shape[2] - 1) for step in (-16, -8, 0, 8, 16)]
    figure = Figure(figsize=(2.4 * len(planes), 2.7 * len(CONTRASTS)), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(CONTRASTS), len(planes))
    for c, (row, name) in enumerate(zip(axes, CONTRASTS, strict=True)):
        top = (
            float(scan.data[c].quantile(0.995)) if scan.data[c].numel() < 2**24 else float(scan.data[c].max())
        )
        for ax, k in zip(row, planes, strict=True):
            ax.imshow(scan.data[c, :, :, k].T, cmap="gray", vmin=0, vmax=top)
            for region, color in ((whole, "#e65500"), (single[name], "#56b4e9")):
                if bool(region.data[0, :, :, k].any()):
                    ax.contour(region.data[0, :, :, k].T, [0.5], colors=[color], linewidths=1)
            ax.set_axis_off()
        row[0].set_title(f"{name}: all four (orange), alone (blue)", fontsize=7, loc="left")
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})


def pictures(net: nn.Module, data: Path, out: Path) -> None:
    """Draws both whole heads with the tissues that were found in them."""
    scans = {"Colin27": "colin27_t1.nii.gz", "MNI152": "mni152_t1_unstripped.nii.gz"}
    figure = Figure(figsize=(11, 2.6 * len(scans)), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scans), 4)
    for row, (name, file) in zip(axes, scans.items(), strict=True):
        mr = read_nifti(data / "head" / file, Quantity.MR)
        _draw(row, name, mr, segment(mr, net))
    figure.tight_layout()
    figure.savefig(out, metadata={"Software": None})


def _draw(row: np.ndarray, name: str, mr: Volume, labels: Volume) -> None:
    grid = around(mr.grid, (1.0, 1.0, 1.0))
    image, found = resample(mr, grid).data[0], resample(labels, grid).data[0]
    i, k = image.shape[0] // 2, image.shape[2] // 2
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
    pictures(net, data, _ROOT / "results" / "cohort_heads.png")
    tumour = regions(data, shipped(TUMOUR_WEIGHTS), _ROOT / "results" / "cohort_tumour.png")
    return {
        **own,
        "seconds_per_head": seconds,
        **tumour,
        "registered_prior_colin27": baseline(data),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(found()))
    sys.exit(0)
