"""Early stop: it stops, gives back the best weights, and goes on after a kill as if there had been none."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Fit, fit

HOW = Fit(
    steps=40, batch=1, warmup=1, average=0.0, learning_rate=0.1, watch_steps=1, checkpoint_s=0.0, patience=3
)


class Ones(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 1000

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        return {"x": torch.ones(1)}


def rising(
    nets: Mapping[str, nn.Module], batch: dict[str, Tensor], _: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    """A loss that pushes the weight upwards for ever."""
    yield "net", -nets["net"](batch["x"]).sum()


def weight() -> dict[str, nn.Module]:
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    return {"net": net}


def value(nets: Mapping[str, nn.Module]) -> float:
    return float(nets["net"].weight.detach())


def quiet(_: str, __: float) -> None:
    return


def test_training_stops_after_so_many_looks_and_gives_the_best_weights(tmp_path: Path) -> None:
    """The weight passes 0.5, where the watched loss is least, and is brought back there."""
    seen: list[float] = []

    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        seen.append(value(nets))
        return {"loss": (value(nets) - 0.5) ** 2}

    nets = weight()
    took = fit(nets, Ones(), rising, HOW, tmp_path, quiet, watch=watch)
    best = min(seen, key=lambda v: (v - 0.5) ** 2)
    assert value(nets) == best
    assert 0.4 < best < 0.6
    assert took["steps"] == seen.index(best) + 1 + HOW.patience < HOW.steps
    assert took["best_watched_loss"] == pytest.approx((best - 0.5) ** 2)
    assert max(seen) > best
    # A run that has stopped takes no more steps, and gives the same weights.
    again = weight()
    assert fit(again, Ones(), rising, HOW, tmp_path, quiet, watch=watch)["steps"] == took["steps"]
    assert value(again) == best


@pytest.mark.parametrize("killed", [3, 6, 8])
def test_a_run_killed_before_or_after_its_best_look_ends_with_the_same_bits(
    tmp_path: Path, killed: int
) -> None:
    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        return {"loss": (value(nets) - 0.5) ** 2}

    def killing(
        nets: Mapping[str, nn.Module], batch: dict[str, Tensor], generator: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        steps.append(1)
        if len(steps) == killed:
            raise KeyboardInterrupt
        yield from rising(nets, batch, generator)

    steps: list[int] = []
    whole, again = weight(), weight()
    took = fit(whole, Ones(), rising, HOW, tmp_path / "whole", quiet, watch=watch)
    with pytest.raises(KeyboardInterrupt):
        fit(weight(), Ones(), killing, HOW, tmp_path / "parts", quiet, watch=watch)
    resumed = fit(again, Ones(), rising, HOW, tmp_path / "parts", quiet, watch=watch)
    assert value(again) == value(whole)
    assert resumed["steps"] == took["steps"]


def test_without_patience_training_goes_to_its_end(tmp_path: Path) -> None:
    def watch(nets: Mapping[str, nn.Module], _: int) -> Mapping[str, float]:
        return {"loss": value(nets)}

    nets = weight()
    took = fit(nets, Ones(), rising, replace(HOW, patience=0), tmp_path, quiet, watch=watch)
    assert took["steps"] == HOW.steps
    assert value(nets) > 1


def test_patience_with_nothing_to_watch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="something to watch"):
        fit(weight(), Ones(), rising, HOW, tmp_path, quiet)
    with pytest.raises(ValueError, match="a watch that finds a loss"):
        fit(weight(), Ones(), rising, HOW, tmp_path, quiet, watch=lambda *_: {"dice": 1.0})
