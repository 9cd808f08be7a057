"""``spindose mr2ct``: a synthetic CT of one to four MRI, by trained networks or the aligned anatomy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from imaging.agreement import dice
from imaging.dicom.writer import write_ct
from imaging.intensity import head_mask
from imaging.nifti import write_nifti
from imaging.resample import resample
from imaging.shapes import Mask
from imaging.source import Source
from imaging.volume import Volume
from models.unet import UNetConfig, unet
from models.weights import load_weights, read_card
from mr2ct.convert import convert
from mr2ct.domain import expect_head_scan
from mr2ct.regression import RegressionNet

from .console import Progress
from .patient import synthetic_ct
from .plan import read_mr

_ZOO = Path(next(iter(models.__path__))) / "zoo"
_MOST = 1024  # channels of a card's network: it is a file of somebody's
_SAME_HEAD = 0.85  # Dice of the heads of two contrasts that lie in one place
_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Asked:
    """What is to be converted.

    Parameters
    ----------
    mri
        One to four scans of one head, each another contrast; the first one's grid is the CT's.
    out
        A NIfTI file or a folder for a DICOM series, by its name.
    uncertainty
        A NIfTI file for the standard deviation (HU), or None.
    weights
        Networks of an ensemble; with none those that ship, or the aligned anatomy while none do.
    bulk
        Whether the aligned anatomy with one CT number a tissue is asked for, which needs no network.
    series
        Which series of a DICOM folder.
    device
        Where networks run.
    """

    mri: tuple[Path, ...]
    out: Path
    uncertainty: Path | None = None
    weights: tuple[Path, ...] = ()
    bulk: bool = False
    series: int | None = None
    device: str = "cpu"


def convert_scans(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Writes what is asked for, whole or not at all, and says what it was made with.

    Raises
    ------
    ValueError
        If scans cannot be read, do not show one head in one place, or do not go with the networks.
    """
    if asked.bulk and (len(asked.mri) > 1 or asked.uncertainty or asked.weights):
        raise ValueError(
            "expected one MRI alone with --bulk, which has no networks, got more; leave out one or the other"
        )
    if asked.uncertainty is not None and not asked.uncertainty.name.endswith(_NIFTI):
        raise ValueError(f"expected --uncertainty to end in .nii or .nii.gz, got {asked.uncertainty.name}")
    bulk = asked.bulk or (not asked.weights and not shipped())
    if bulk and not asked.bulk and (len(asked.mri) > 1 or asked.uncertainty):
        raise ValueError(
            "expected --weights for several contrasts or --uncertainty, since none ship yet, got none; "
            "train them with `spindose train mr2ct`"
        )
    nets, config = ([], RegressionNet()) if bulk else read_nets(asked.weights, asked.device)
    scans = [read_mr(path, series=asked.series) for path in asked.mri]
    for scan in scans:
        expect_head_scan(scan.volumes["mr"])
    first, source = scans[0].volumes["mr"], scans[0].source
    facts: dict[str, Any] = {"shape": list(first.grid.shape), "spacing_mm": first.grid.spacing.tolist()}
    if bulk:
        ct = synthetic_ct(first, progress).volumes["ct"]
        _write_ct(ct, source, asked.out)
        return {"ct": str(asked.out), "method": "bulk densities of the aligned anatomy", **facts}
    mr = _together([scan.volumes["mr"] for scan in scans])
    progress("CT numbers", 0.0)
    found = convert(mr, nets, config)
    progress("CT numbers", 1.0)
    if asked.uncertainty is not None:
        write_nifti(found.uncertainty, asked.uncertainty)
    _write_ct(found.ct, source, asked.out)
    return {
        "ct": str(asked.out),
        **({"uncertainty": str(asked.uncertainty)} if asked.uncertainty else {}),
        "method": f"{len(nets)} networks",
        "contrasts": len(scans),
        **facts,
    }


def shipped() -> list[Path]:
    """Weights of the networks that ship; none yet."""
    return sorted(_ZOO.glob("mr2ct-*.safetensors"))


def read_nets(weights: Sequence[Path] = (), device: str = "cpu") -> tuple[list[nn.Module], RegressionNet]:
    """Networks of one ensemble and what they were trained with: given ones, or those that ship.

    Raises
    ------
    ValueError
        If there are none, one is of another kind, or they differ in their configuration.
    """
    paths = list(weights) or shipped()
    if not paths:
        raise ValueError(
            "expected networks to make a CT with, got none; train them with `spindose train mr2ct`"
        )
    configs = [_config(read_card(path)) for path in paths]
    if any(config != configs[0] for config in configs):
        raise ValueError("expected networks of one configuration as an ensemble, got different ones")
    nets = []
    for path in paths:
        net = unet(configs[0].net)
        load_weights(net, path)
        nets.append(_on(net.eval(), device))
    return nets, configs[0]


def _on(net: nn.Module, device: str) -> nn.Module:
    try:
        return net.to(torch.device(device))
    except (RuntimeError, AssertionError):
        raise ValueError(f"expected --device such as cpu or cuda, got {device!r} and none such") from None


def _config(card: Mapping[str, Any]) -> RegressionNet:
    """What a card says its network is."""
    try:
        told = dict(card["config"])
        spacing = float(told.pop("spacing"))
        i, j, k = (int(n) for n in told.pop("shape"))
        net = UNetConfig(**{**told, "features": tuple(told["features"])})
        if card["name"] != "mr2ct" or max(net.inputs, *net.features) > _MOST or net.outputs != 2:
            raise ValueError  # noqa: TRY301
        return replace(RegressionNet(), spacing=spacing, shape=(i, j, k), net=net)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            "expected weights of `spindose train mr2ct` with the card that it writes, got others"
        ) from None


def _together(volumes: Sequence[Volume]) -> Volume:
    """Contrasts of one head on the first one's grid.

    Raises
    ------
    ValueError
        If a head lies elsewhere than the first one's.
    """
    first = volumes[0]
    if len(volumes) == 1:
        return first
    head = _head(first)
    channels = [first.data]
    for n, volume in enumerate(volumes[1:], start=2):
        here = resample(volume, first.grid)
        overlap = dice(head, _head(here))
        if overlap < _SAME_HEAD:
            raise ValueError(
                f"expected contrasts that show one head in one place, got MRI {n} with a Dice of "
                f"{overlap:.2f} to the first; register them, or give the first one alone"
            )
        channels.append(here.data)
    return replace(first, data=torch.cat(channels))


def _head(mr: Volume) -> Mask:
    return head_mask(mr).data[0] > 0


def _write_ct(ct: Volume, source: Source, out: Path) -> None:
    if out.name.endswith(_NIFTI):
        write_nifti(ct, out)
    else:
        write_ct(ct, source, out)
