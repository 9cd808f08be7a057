"""The recipe of the GAN: the diffusion's generator, drawing in one pass against two patch discriminators.

Hinge loss (Lim and Ye, arXiv 1705.02894) with the R1 penalty (Mescheder et al., ICML 2018) taken lazily
(Karras et al., CVPR 2020) and differentiable augmentation (Zhao et al., NeurIPS 2020). Samples are given
voxels as in the diffusion's recipe, so that one set of weights draws from labels, completes contrasts and
paints inside a region.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.tracking import GeneralTracker
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.augment import Augmentation, augmented
from models.discriminator import (
    DiscriminatorConfig,
    Discriminators,
    hinge_of_discriminator,
    hinge_of_generator,
    r1,
    views,
)
from models.fit import Batch, Fit, Nets, Watch, fit
from models.generator import SLICES, Generator, GeneratorConfig, Hints, Predicts, build
from models.samplers import shortcut
from models.wavelet import to_image

from .conditions import Shares, drawn_known, told, tumour_mask

GENERATOR, DISCRIMINATOR = "generator", "discriminator"

Images = Float[Tensor, "b c *space"]


def one_pass(config: GeneratorConfig) -> GeneratorConfig:
    """The same network as a GAN's: it goes from noise to the image's bands in a single step.

    That is the one step of a shortcut model, so that a GAN can start from the weights of a diffusion.
    """
    return replace(config, predicts=Predicts.BANDS, widths=max(config.widths, 1), render_share=0.0)


def refining(config: "Adversarial") -> "Adversarial":
    """The same for a generator that draws already: it moves slowly, and is judged by ones that learn fast.

    Fresh discriminators need a few hundred steps to see what is wrong with a diffusion's drawings; at the
    usual pace the generator runs away from them.
    """
    return replace(config, pace=32.0, fit=replace(config.fit, learning_rate=3e-5))


def _fit(batch: int) -> Fit:
    return Fit(
        budget_s=3600.0, batch=batch, learning_rate=1e-4, weight_decay=0.0, momentum=0.0, average=0.999
    )


@dataclass(frozen=True)
class Adversarial:
    """Networks and training of a GAN.

    Parameters
    ----------
    generator
        Its network, as :func:`one_pass` gives it.
    features, layers
        Size of the discriminators (:class:`models.discriminator.DiscriminatorConfig`).
    shares
        How often a sample is given contrasts, or all but a region, or is told no condition.
    augmentation
        Of what the discriminators see; half as strong as the paper's, which is for far longer trainings.
    gamma
        Weight of the R1 penalty of patches (:func:`models.discriminator.r1`), whose gradients add up where
        patches overlap: 0.02 is about 4 on the mean of 200 patches. With 1, discriminators of slices said 0
        of everything for 1500 steps.
    every
        The penalty is taken of one real image in so many: of one at every step where a batch has as many;
        of one at some steps, drawn by chance, where it has fewer, and it then weighs more. StyleGAN2 takes
        it of whole batches at one step in 16, whose large gradients our loop's limit would cut short.
    known
        Weight of the mean absolute error of voxels that were given.
    reconstruction
        Weight of that error of the other voxels where whole contrasts were given, which leave less to
        chance (Isola et al., CVPR 2017; they take 100 where every sample is a pair, here most are not).
    bf16
        Whether networks run in bfloat16; the penalty, a square of gradients, never does.
    pace
        How many times faster the discriminators learn (Heusel et al., NIPS 2017): at the generator's own
        rate they fall behind it and say 0 of everything.
    fit
        Rates and budget. Adam without momentum, as GANs with R1 are trained.

    Raises
    ------
    ValueError
        If the generator does not answer with bands in one pass, or a weight is negative.
    """

    generator: GeneratorConfig = field(default_factory=lambda: one_pass(SLICES))
    features: int = 32
    layers: int = 3
    shares: Shares = field(default_factory=Shares)
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(0.25, 0.25, 0.0625, 0.25))
    gamma: float = 0.02
    every: int = 8
    known: float = 1.0
    reconstruction: float = 10.0
    bf16: bool = True
    pace: float = 4.0
    fit: Fit = field(default_factory=lambda: _fit(8))

    def __post_init__(self) -> None:
        if one_pass(self.generator) != self.generator:
            raise ValueError(
                "expected a generator that predicts bands, with widths and no render; make it with one_pass"
            )
        if min(self.gamma, self.known, self.reconstruction, self.pace) < 0 or self.every < 1:
            raise ValueError(
                f"expected weights of 0 or more, a pace too, and a penalty of one image in 1 or more, got "
                f"{self.gamma}, {self.known}, {self.reconstruction}, {self.pace} and {self.every}"
            )


def networks(config: Adversarial, seed: int = 0) -> dict[str, nn.Module]:
    """Generator and discriminators with first weights that depend on the seed alone, by name."""
    g = config.generator
    size = DiscriminatorConfig(g.space, g.contrasts, g.classes, config.features, config.layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminators = Discriminators(size)
    return {GENERATOR: build(g, seed), DISCRIMINATOR: discriminators}


def drawn(net: nn.Module, hints: Hints, config: Adversarial, generator: torch.Generator) -> Images:
    """Images that a generator draws in one pass from noise, before what was given is put back.

    Parameters
    ----------
    net
        The generator.
    hints
        Condition and given voxels, shape ``(b, …, *space)``.
    config
        What it was built with.
    generator
        Draws the noise, on its own device.
    """
    known = hints.known
    b, space = len(known), [s // 2 for s in known.shape[2:]]
    noise = torch.randn(b, config.generator.bands, *space, generator=generator, device=generator.device)
    with torch.autocast(known.device.type, torch.bfloat16, enabled=config.bf16):
        bands = shortcut(net, noise.to(known.device), hints, 1)
    return to_image(bands.float(), config.generator.std)


def losses(
    config: Adversarial, nets: Nets, batch: Batch, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """The discriminators' loss, then the generator's, for one batch; loops take ``partial(losses, config)``.

    The generator draws once; the discriminators step on what it drew, and judge it again afterwards. They
    see given voxels as they are: a drawing that does not fit to what was given gives itself away.

    Parameters
    ----------
    config
        Weights of the losses.
    nets
        As :func:`networks` gives them.
    batch
        ``image`` (b, c, *space) of about -1 to 1; ``condition`` (b, K, *space), none where K is 0; and
        ``present`` (b, c), 1 for every contrast that a case really has, all where it is missing.
    generator
        Draws noise, given voxels, augmentation, and whether the penalty is taken.
    """
    image = batch["image"]
    condition = batch.get("condition", image[:, :0])
    present = batch.get("present", torch.ones(image.shape[:2], device=image.device))
    known = drawn_known(present, tumour_mask(condition), config.shares, generator)
    condition = told(condition, config.shares, generator)
    there = (present > 0).to(image.dtype).reshape(*present.shape, *(1,) * (image.ndim - 2))
    answer = drawn(nets[GENERATOR], Hints(condition, known, image * known), config, generator)
    fake = torch.where(known > 0, image, answer) * there
    judge = nets[DISCRIMINATOR]
    yield (
        DISCRIMINATOR,
        _discriminator_loss(judge, image * there, fake.detach(), condition, config, generator),
    )
    adversarial = _generator_loss(judge, fake, condition, config, generator)
    yield GENERATOR, adversarial + _errors(answer, image, known, there, config)


def _discriminator_loss(
    judge: nn.Module,
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    config: Adversarial,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    both = torch.cat([real, fake])
    seen, told_ = augmented(both, torch.cat([condition, condition]), config.augmentation, generator)
    n = len(real)
    with torch.autocast(real.device.type, torch.bfloat16, enabled=config.bf16):
        said = judge(*views(seen, config.generator.std), told_)
    loss = hinge_of_discriminator(tuple(s[:n] for s in said), tuple(s[n:] for s in said))
    few, rare = max(n // config.every, 1), max(config.every / n, 1.0)
    lucky = rare * float(torch.rand(1, generator=generator, device=generator.device)) < 1
    if config.gamma > 0 and lucky:
        at = [v.detach().requires_grad_() for v in views(seen[:few], config.generator.std)]
        with torch.autocast(real.device.type, enabled=False):
            loss = loss + rare * config.gamma / 2 * r1(judge(*at, told_[:few]), at)
    return loss


def _generator_loss(
    judge: nn.Module, fake: Tensor, condition: Tensor, config: Adversarial, generator: torch.Generator
) -> Float[Tensor, ""]:
    seen, told_ = augmented(fake, condition, config.augmentation, generator)
    wanted = [p for p in judge.parameters() if p.requires_grad]
    for p in wanted:  # gradients go through the judges, not into them
        p.requires_grad_(False)
    try:
        with torch.autocast(fake.device.type, torch.bfloat16, enabled=config.bf16):
            said = judge(*views(seen, config.generator.std), told_)
    finally:
        for p in wanted:
            p.requires_grad_(True)
    return hinge_of_generator(said)


def _errors(
    answer: Tensor, image: Tensor, known: Tensor, there: Tensor, config: Adversarial
) -> Float[Tensor, ""]:
    """Mean absolute error of given voxels, and of the others where whole contrasts were given."""
    off = (answer - image).abs()
    whole = known.flatten(2).amin(dim=2).amax(dim=1).reshape(-1, *(1,) * (image.ndim - 1))
    others = (1 - known) * there * whole
    return config.known * _mean(off, known) + config.reconstruction * _mean(off, others)


def _mean(off: Tensor, where: Tensor) -> Float[Tensor, ""]:
    """Of each sample's own mean over voxels, 0 for those without any."""
    return ((off * where).flatten(1).sum(1) / where.flatten(1).sum(1).clamp(min=1)).mean()


def train(
    config: Adversarial,
    samples: Dataset[Batch],
    folder: Path,
    progress: Callable[[str, float], None],
    device: str = "cpu",
    seed: int = 0,
    watch: Watch | None = None,
    trackers: Sequence[GeneralTracker] = (),
    start: Generator | None = None,
) -> tuple[Generator, Mapping[str, Any]]:
    """A generator trained on samples, and what training took; goes on with what ``folder`` holds.

    Parameters
    ----------
    config
        Networks and training.
    samples
        Gives what :func:`losses` asks of a batch, without the batch's axis.
    folder
        Keeps checkpoints.
    progress
        Called with what happens and the share that is done.
    device
        Where it trains.
    seed
        Of the first weights and of all that training draws.
    watch, trackers
        As `models.fit.fit` takes them.
    start
        Generator of the same size, such as a diffusion's, whose weights are the first ones.
    """
    nets = {name: net.to(device) for name, net in networks(config, seed).items()}
    if start is not None:
        nets[GENERATOR].load_state_dict(start.state_dict())
    paces = {DISCRIMINATOR: config.pace}
    took = fit(
        nets, samples, partial(losses, config), config.fit, folder, progress, seed, watch, trackers, paces
    )
    return cast("Generator", nets[GENERATOR]), took
