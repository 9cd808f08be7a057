import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Fit, fit
from models.weights import CARD, load_weights, read_card, save_weights

QUICK = Fit(steps=12, batch=2, workers=0, checkpoint_s=0.0, warmup=2, average=0.5)


class Line(Dataset[dict[str, Tensor]]):
    """Points of y = 3 x - 1; the n-th is always the same."""

    def __init__(self, length: int = 4000, bad: bool = False) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        x = torch.rand(8, 1, generator=torch.Generator().manual_seed(n))
        return {"x": x, "y": 3 * x - 1 + (torch.nan if self.bad else 0)}


def squared(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return ((net(batch["x"]) - batch["y"]) ** 2).mean()


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


class KilledError(Exception):
    pass


def test_a_line_is_found(tmp_path: Path) -> None:
    net = linear()
    took = fit(net, Line(), squared, Fit(steps=600, batch=4, workers=0, learning_rate=0.05), tmp_path, quiet)
    assert took["steps"] == 600
    weight, bias = (float(p.detach()) for p in net.parameters())
    assert weight == pytest.approx(3, abs=0.05)
    assert bias == pytest.approx(-1, abs=0.05)


def test_a_run_killed_on_the_way_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = linear()
    fit(whole, Line(), squared, QUICK, tmp_path / "whole", quiet)

    def killing(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        steps.append(1)
        if len(steps) == 7:
            raise KilledError
        return squared(net, batch)

    steps: list[int] = []
    net = linear()
    with pytest.raises(KilledError):
        fit(net, Line(), killing, QUICK, tmp_path / "parts", quiet)
    again = linear()
    fit(again, Line(), squared, QUICK, tmp_path / "parts", quiet)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))


def test_a_finished_run_takes_no_more_steps(tmp_path: Path) -> None:
    fit(linear(), Line(), squared, QUICK, tmp_path, quiet)
    assert fit(linear(), Line(), squared, QUICK, tmp_path, quiet)["loss"] is None


def test_a_budget_of_time_ends_training(tmp_path: Path) -> None:
    how = Fit(budget_s=0.3, workers=0)
    assert fit(linear(), Line(1_000_000), squared, how, tmp_path, quiet)["seconds"] >= 0.3


def test_a_loss_that_stays_nan_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite loss"):
        fit(linear(), Line(bad=True), squared, Fit(steps=100, workers=0), tmp_path, quiet)


def test_another_network_or_setting_is_not_mixed_with_a_checkpoint(tmp_path: Path) -> None:
    fit(linear(), Line(), squared, QUICK, tmp_path, quiet)
    with pytest.raises(ValueError, match="another's"):
        fit(nn.Linear(1, 2), Line(), squared, QUICK, tmp_path, quiet)
    with pytest.raises(ValueError, match="settings that the checkpoint"):
        fit(linear(), Line(), squared, Fit(steps=12, batch=3, workers=0), tmp_path, quiet)


def test_settings_without_an_end_are_refused() -> None:
    with pytest.raises(ValueError, match="number of steps or a budget"):
        Fit()
    with pytest.raises(ValueError, match="0 or more"):
        Fit(steps=-1)


def card() -> dict[str, object]:
    return dict.fromkeys(CARD, "")


def test_weights_come_back_in_half_precision_with_their_card(tmp_path: Path) -> None:
    net, other = linear(), nn.Linear(1, 1)
    save_weights(net.state_dict(), {**card(), "name": "line"}, tmp_path / "line.safetensors")
    assert load_weights(other, tmp_path / "line.safetensors")["name"] == "line"
    assert other.weight.item() == pytest.approx(net.weight.item(), rel=1e-3)
    assert {t.dtype for t in load_file(tmp_path / "line.safetensors").values()} == {torch.float16}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["line.json", "line.safetensors"]


def test_weights_without_card_or_with_nan_or_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match="model card"):
        save_weights(linear().state_dict(), {"name": "line"}, path)
    with pytest.raises(ValueError, match="finite weights"):
        save_weights({"a": torch.tensor([torch.nan])}, card(), path)
    with pytest.raises(ValueError, match="at most 16 MiB"):
        save_weights({"a": torch.zeros(9 * 2**20)}, card(), path)
    with pytest.raises(ValueError, match="got none"):
        read_card(path)
    save_weights(linear().state_dict(), card(), path)
    with pytest.raises(ValueError, match="fit the network"):
        load_weights(nn.Linear(2, 2), path)
