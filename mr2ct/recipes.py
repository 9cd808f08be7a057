"""The recipes of a synthetic CT with one signature, so that they are trained and compared alike.

All but the flow give a network that :func:`.convert.convert` takes as the regression's; the flow draws on
top of a regression (:mod:`.residual_flow`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate.tracking import GeneralTracker
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Fit
from models.generator import Generator, GeneratorConfig, build
from models.unet import unet
from models.weights import load_weights, read_card

from . import adversarial as against_a_judge
from . import regression as by_regression
from . import residual_flow
from .adversarial import AdversarialNet, without_pairs
from .ct_features import CtFeatures
from .regression import RegressionNet
from .residual_flow import ResidualFlow

FLOW = "mr2ct-flow"

Samples = Dataset[dict[str, Tensor]]
Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a recipe gives.

    Parameters
    ----------
    net
        The network.
    config
        What it was trained with.
    took
        Steps, seconds and last loss.
    name
        Of the kind of weights, by which they are read.
    does, method
        For a card: what they are for, and how they came about.
    """

    net: nn.Module
    config: RegressionNet | ResidualFlow
    took: Mapping[str, Any]
    name: str
    does: str
    method: str

    def card(self) -> dict[str, Any]:
        """What a card says of the recipe; data, licence, split and limits are the caller's to tell."""
        lattice = {"spacing": self.config.spacing, "shape": self.config.shape}
        if isinstance(self.config, ResidualFlow):
            size = {"net": self.config.net.as_json(), "doubt": self.config.doubt}
        else:
            size = self.config.net.as_json() | {"window": self.config.window}
        return {
            "name": self.name,
            "does": self.does,
            "method": self.method,
            "config": size | lattice,
            "recipe": asdict(self.config),
            "budget": dict(self.took),
            "metrics": {"training_loss": self.took["loss"]},
        }


Trackers = Sequence[GeneralTracker]
# config, samples, folder, progress, device, seed, start, features, trackers -> what it gives
Recipe = Callable[
    [RegressionNet, Samples, Path, Progress, str, int, Path | None, CtFeatures | None, Trackers], Trained
]
_DOES = "CT numbers of a head, and how far they may be off, from one to four MRI of any contrast"


def _answering(
    own: Callable[[RegressionNet], Any],
    train: Callable[..., tuple[nn.Module, Mapping[str, Any]]],
    method: str,
) -> Recipe:
    """A recipe whose network answers as the regression's does."""

    def learn(
        config: RegressionNet,
        samples: Samples,
        folder: Path,
        progress: Progress,
        device: str = "cpu",
        seed: int = 0,
        start: Path | None = None,
        features: CtFeatures | None = None,
        trackers: Trackers = (),
    ) -> Trained:
        used = own(config)
        net, took = train(used, samples, folder, progress, device, seed, start, features, trackers)
        more = " and features of a segmenter of CTs" if features else ""
        return Trained(net, used, took, "mr2ct", _DOES, method + more)

    return learn


def flow(
    config: RegressionNet,
    samples: Samples,
    folder: Path,
    progress: Progress,
    device: str = "cpu",
    seed: int = 0,
    start: Path | None = None,
    features: CtFeatures | None = None,
    trackers: Trackers = (),
) -> Trained:
    """A flow of what the regression ``start`` leaves open, of which ``config`` says how large it is.

    Raises
    ------
    ValueError
        If no regression is given, or features, which it has no use for.
    """
    if start is None or features is not None:
        raise ValueError(
            "expected weights of a regression to draw residuals of, and no features of CTs, got otherwise; "
            "train one with `spindose train mr2ct`"
        )
    net = unet(config.net)
    load_weights(net, start)
    whole = ResidualFlow()
    planes = config.net.inputs - RegressionNet().net.inputs
    size = replace(whole.net, classes=whole.net.classes + planes, embedded=whole.net.embedded + planes)
    own = ResidualFlow(config.spacing, config.shape, size, fit=_budget(whole.fit, config.fit))
    drawn, took = residual_flow.train(own, samples, net, folder, progress, device, seed, trackers)
    own = replace(own, net=drawn.settings)
    does = "samples of the CT of a head where a regression leaves bone and air open, beside that regression"
    method = "flow matching of the residual's wavelets (Lipman et al., ICLR 2023)"
    return Trained(drawn, own, took, FLOW, does, method)


def read_flow(path: Path, device: str = "cpu") -> tuple[Generator, ResidualFlow]:
    """A flow and what it was trained with, from weights with the card of :func:`flow`.

    Raises
    ------
    ValueError
        If there are none, or they are of another kind.
    """
    card = read_card(path)
    try:
        told = card["config"]
        i, j, k = (int(n) for n in told["shape"])
        settings = GeneratorConfig.from_json(told["net"])
        if card["name"] != FLOW:
            raise ValueError  # noqa: TRY301
        config = ResidualFlow(float(told["spacing"]), (i, j, k), settings, float(told["doubt"]))
    except (KeyError, TypeError, ValueError):
        raise ValueError("expected weights of a flow of residuals with their card, got others") from None
    net = build(settings)
    load_weights(net, path)
    return net.to(device).eval(), config


def _as_gan(config: RegressionNet) -> AdversarialNet:
    own = AdversarialNet(config.spacing, config.shape, config.net, window=config.window)
    return replace(own, fit=_budget(own.fit, config.fit))


def _budget(own: Fit, asked: Fit) -> Fit:
    """A recipe's own rates for as long as asked."""
    return replace(own, steps=asked.steps, budget_s=asked.budget_s, batch=asked.batch, workers=asked.workers)


# By the names that a command knows them by; GANs keep their own rates.
RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "regression": _answering(
            lambda config: config,
            by_regression.train,
            "regression of levels of CT numbers with a Laplace scale",
        ),
        "gan": _answering(
            _as_gan,
            against_a_judge.train,
            "regression and a judge that sees the MRI beside the CT (Isola et al., CVPR 2017)",
        ),
        "unpaired": _answering(
            lambda config: without_pairs(_as_gan(config)),
            against_a_judge.train,
            "a judge of CTs and directional total variation (Ehrhardt and Betcke, 2016), without pairs; how "
            "far numbers may be off is what its first weights said",
        ),
        "flow": flow,
    }
)
