"""The dose predictor as a task that sites learn together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from app.dose_material import ReadyDose, read_whole
from app.dose_samples import DoseSamples
from app.train_dose import DoseRun
from app.train_dose import score as scored
from models.dose_unet import dose_unet
from models.fit import Batch
from planning.predict.channels import chosen, names_of
from planning.predict.nets import loss_of

from .dose_counts import counts_of


@dataclass(frozen=True, eq=False)
class DoseTask:
    """A site's patients with accepted doses, as :class:`app.federation.learning.Task`.

    Parameters
    ----------
    run
        Site of treatment, what is seen, network and samples; its budget and seed of samples are not used.
    training, held_out
        Patients made ready (:func:`app.dose_material.prepare_doses`).
    """

    run: DoseRun
    training: Sequence[ReadyDose]
    held_out: Sequence[ReadyDose]

    @property
    def n_training(self) -> int:
        """Patients to learn from; plans of one patient are one."""
        return len({case.patient for case in self.training})

    @property
    def n_held_out(self) -> int:
        """Patients to validate on; plans of one patient are one."""
        return len({case.patient for case in self.held_out})

    def network(self) -> nn.Module:
        """A predictor whose first weights follow from the run's seed."""
        torch.manual_seed(self.run.seed)
        net: nn.Module = dose_unet(self.run.config.net)
        return net

    def samples(self, seed: int) -> Dataset[Batch]:
        """Windows of patients, mirrored, turned and stretched."""
        names = names_of(self.run.site, self.run.sees)
        far = [name.startswith("distance") for name in names]
        planes = chosen(self.run.site, self.run.sees)
        return DoseSamples(self.training, planes, far, self.run.shape, self.run.varied, seed)

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Errors of dose and histograms (Gy)."""
        return loss_of(self.run.config, self.run.site, net, batch)

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Patients by levels, volumes and mean doses (:mod:`app.federation.dose_counts`)."""
        return counts_of([*self.training, *self.held_out], self.run.site)

    def score(self, net: nn.Module) -> Mapping[str, float]:
        """Mean errors (Gy) of dose, histograms and what counts of them."""
        planes, device = chosen(self.run.site, self.run.sees), str(next(net.parameters()).device)
        batches = (read_whole(case, planes, device) for case in self.held_out)
        total = {"dose_gy": 0.0, "histogram_gy": 0.0, "counted_gy": 0.0}
        for batch in batches:
            found = scored(net, self.run.config, self.run.site, [batch])
            total = {name: value + found[name] / len(self.held_out) for name, value in total.items()}
        return total
