"""``spindose predict dose``: predictors of their cards, an ensemble, and patients that they look at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from imaging.atomic import new_folder
from imaging.volume import Volume
from models.dose_unet import dose_unet
from models.weights import load_weights, read_card
from planning.beams import Beam
from planning.predict.alike import Known, traits_of, unlike
from planning.predict.channels import seen
from planning.predict.nets import DoseNet, dose_net_of
from planning.predict.patient import Patient
from planning.predict.predicted import told as said
from planning.predict.site import Site, read_site

from .console import Progress

Read = Callable[[Path], Patient]
Write = Callable[[Volume, Patient, Path], None]


@dataclass(frozen=True, eq=False)
class Predictor:
    """Networks of one config with their site.

    Parameters
    ----------
    nets
        Trained.
    config, site
        What they were trained with.
    traits
        What the patients that they learnt from are like; empty where their card does not tell.
    """

    nets: tuple[nn.Module, ...]
    config: DoseNet
    site: Site
    traits: Known = field(default_factory=dict)

    def __call__(
        self, patient: Patient, style: str = "", beams: Sequence[Beam] | None = None
    ) -> tuple[Volume, Volume, list[str]]:
        """Dose, its standard deviation (Gy), and what of the patient is unlike those learnt from.

        As :func:`planning.predict.predicted.predicted` and :func:`planning.predict.alike.unlike`.
        """
        there = seen(patient, self.site, self.config.sizes, style, beams)
        dose, sigma = said(there, patient, self.nets, self.site, self.config)
        traits = traits_of(there.bits, there.known, there.grid.spacing.tolist(), self.site)
        return dose, sigma, unlike(traits, self.traits)


def load_predictor(weights: Sequence[Path], site: str = "", device: str = "cpu") -> Predictor:
    """Networks as their cards tell them.

    Parameters
    ----------
    weights
        Of one network or of an ensemble's.
    site
        A site's name or TOML file; that of the cards where it is empty.
    device
        Where they run.

    Raises
    ------
    ValueError
        If there are none, a card is no dose predictor's, or they do not see the same.
    """
    if not weights:
        raise ValueError("expected weights of a dose predictor, got none; train one and name it by --weights")
    cards = [read_card(path) for path in weights]
    told = [card["config"] for card in cards]
    named = site or str(told[0].get("site", ""))
    known = read_site(named)
    configs = [dose_net_of(config, known) for config in told]
    if any((c.sees, c.sizes) != (configs[0].sees, configs[0].sizes) for c in configs):
        raise ValueError("expected networks that see the same, got others; predict with each alone")
    if any(config.get("site") != told[0].get("site") for config in told):
        raise ValueError("expected networks of one site, got those of several; predict with each alone")
    nets = []
    for path, config in zip(weights, configs, strict=True):
        net = dose_unet(config.net)
        load_weights(net, path)
        nets.append(net.to(device).eval())
    return Predictor(tuple(nets), configs[0], known, _traits(cards[0]))


def _traits(card: Mapping[str, Any]) -> Known:
    """What a card tells of the patients learnt from.

    Raises
    ------
    ValueError
        If it is no such thing.
    """
    told = card.get("traits", {})
    try:
        return {
            str(name): (float(low), float(middle), float(high)) for name, (low, middle, high) in told.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise ValueError("expected a card whose traits are three numbers each, got others") from None


def predict_folder(
    folders: Sequence[Path],
    predictor: Predictor,
    out: Path,
    progress: Progress,
    read: Read,
    write: Write,
    style: str = "",
) -> Mapping[str, Any]:
    """A file of dose for each patient, named as its folder, in a new folder: all of them, or nothing.

    Parameters
    ----------
    folders
        Of patients.
    predictor
        Looks at them.
    out
        New.
    progress
        Called with what happens and the share that is done.
    read, write
        Of the layout.
    style
        Of planning, where the site has some.

    Returns
    -------
    Mapping
        ``patients``, the mean over them of the mean standard deviation where dose may be, ``sigma_gy``, and
        by folder what is ``unlike`` the patients that networks learnt from.

    Raises
    ------
    ValueError
        If there is no patient, two have one name, or one cannot be read.
    """
    if not folders:
        raise ValueError("expected folders of patients, got none")
    if len({folder.name for folder in folders}) < len(folders):
        raise ValueError("expected patients' folders of different names, got two of one; predict them apart")
    sigma, unalike = 0.0, {}
    with new_folder(out) as part:
        for n, folder in enumerate(folders):
            patient = read(folder)
            dose, off, strange = predictor(patient, style)
            if strange:
                unalike[folder.name] = strange
            write(dose, patient, part / f"{folder.name}.csv")
            inside = patient.possible.data > 0
            sigma += float(off.data[inside].mean()) / len(folders)
            progress("Predicting doses", (n + 1) / len(folders))
    return {"patients": len(folders), "sigma_gy": round(sigma, 3), "unlike": unalike}
