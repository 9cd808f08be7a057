"""The synthetic-CT network as a task that sites learn together, each on its own pairs of MRI and CT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from app.console import Progress
from app.paired_cases import paired_cases
from app.paired_material import Ready, prepare_pairs
from app.prepared import split_patients
from app.real_pairs import RealPairs
from app.train_mr2ct import Mr2ctRun
from imaging.brightness import scaled
from models.fit import Batch
from models.unet import unet
from models.windows import through_windows
from mr2ct.regression import RegressionNet, answer, loss_of
from synth.randomisation import Randomisation

from .settings import expect_words, shape_of, spacing_of, unet_of
from .study import Study

ERRORS = ("mae_hu",)
_WORDS = {"net": dict, "shape": list, "window": list, "spacing": float}


@dataclass(frozen=True, eq=False)
class Mr2ctTask:
    """A site's pairs of MRI and CT, as :class:`app.federation.learning.Task`.

    Parameters
    ----------
    config
        The network; its budget is not used.
    samples_of
        How far samples differ.
    training, held_out
        Pairs made ready (:func:`app.paired_material.prepare_pairs`); no patient is in both.
    seed
        Of first weights.
    """

    config: RegressionNet
    samples_of: Randomisation
    training: Sequence[Ready]
    held_out: Sequence[Ready]
    seed: int = 0

    @property
    def n_training(self) -> int:
        """Patients to learn from; pairs of one patient are one."""
        return len({pair.patient for pair in self.training})

    @property
    def n_held_out(self) -> int:
        """Patients to validate on."""
        return len({pair.patient for pair in self.held_out})

    def network(self) -> nn.Module:
        """A network whose first weights follow from the seed."""
        torch.manual_seed(self.seed)
        net: nn.Module = unet(self.config.net)
        return net

    def samples(self, seed: int) -> Dataset[Batch]:
        """Parts of pairs, turned, scaled and shaded, with some contrasts left out."""
        return RealPairs([pair.path for pair in self.training], self.samples_of, seed)

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of levels, absolute error and likelihood of scales."""
        return loss_of(net, batch)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Patients by how many contrasts fit their CT, of the pair that has most."""
        found: dict[str, int] = {}
        for pair in (*self.training, *self.held_out):
            n = min(len(pair.contrasts), self.config.net.inputs)
            found[pair.patient] = max(n, found.get(pair.patient, 0))
        each = {str(n): 0 for n in range(1, self.config.net.inputs + 1)}
        for n in found.values():
            each[str(n)] += 1
        return {"patients": {"all": len(found)}, "contrasts": each}

    def score(self, net: nn.Module) -> Mapping[str, float]:
        """Mean absolute error (HU) in the body on the network's voxels: of patients, each of its pairs."""
        found: dict[str, list[float]] = {}
        for pair in self.held_out:
            found.setdefault(pair.patient, []).append(_mae(pair.path, net, self.config))
        return {"mae_hu": fmean(fmean(of) for of in found.values())}


def config_of(study: Study) -> tuple[RegressionNet, Randomisation]:
    """Network and samples of a study of synthetic CT.

    Raises
    ------
    ValueError
        If a setting is unknown, or not this network's.
    """
    told = dict(study.model)
    expect_words(told, _WORDS)
    of = Mr2ctRun()
    shape, spacing = shape_of(told, "shape", of.recipe.shape), spacing_of(told, of.recipe.spacing)
    net = unet_of(told.get("net", {}), of.recipe.net)
    window = shape_of(told, "window", of.recipe.window)
    config = replace(of.recipe, spacing=spacing, shape=shape, net=net, window=window)
    return config, replace(of.samples, shape=shape, spacing=spacing)


def network(study: Study) -> nn.Module:
    """A study's network with its first weights."""
    config, samples = config_of(study)
    with torch.random.fork_rng(devices=[]):
        return Mr2ctTask(config, samples, (), (), study.seed).network()


def cells(study: Study) -> Mapping[str, tuple[str, ...]]:
    """Names of the cells of what a site may count."""
    config, _ = config_of(study)
    return {"patients": ("all",), "contrasts": tuple(str(n) for n in range(1, config.net.inputs + 1))}


def read(
    study: Study, folders: tuple[Path, ...], ready: Path, held_out: float, progress: Progress
) -> Mr2ctTask:
    """A study's task at a site, whose pairs are read as ``spindose train mr2ct`` reads them."""
    config, samples = config_of(study)
    found, _ = prepare_pairs(paired_cases(folders).pairs, config.spacing, ready, progress)
    training, out = split_patients(found, held_out)
    return Mr2ctTask(config, samples, training, out, study.seed)


def card(study: Study) -> dict[str, Any]:
    """What the weights of a study are; data, split and figures are the caller's to tell."""
    config, _ = config_of(study)
    return {
        "name": "mr2ct",  # by which `spindose mr2ct` knows them
        "does": "CT numbers of a head, and how far they may be off, from one to four MRI of any contrast",
        "config": config.net.as_json()
        | {"window": config.window, "spacing": config.spacing, "shape": config.shape},
        "limits": "Knows contrasts of the sites alone; no synthetic head was seen. Adult heads only. ",
    }


def _mae(path: Path, net: nn.Module, config: RegressionNet) -> float:
    """Mean absolute error (HU) in the body of one pair, all its contrasts seen at once."""
    pair = load_file(path)
    mr = pair["mr"][: config.net.inputs].float()
    image = torch.cat([mr, mr.new_zeros(config.net.inputs - len(mr), *mr.shape[1:])])
    found = through_windows(image, net, lambda b: answer(net, b)[0][:, None], config.window, scaled)[0]
    error = (found - pair["ct"].float()).abs()
    return float(error[pair["body"] > 0].mean())
