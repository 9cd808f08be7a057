import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from models.fit import Fit, fit
from models.weights import CARD, load_weights, read_card, save_weights, start_from

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


def squared(
    nets: Mapping[str, nn.Module], batch: dict[str, Tensor], _: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    yield "net", ((nets["net"](batch["x"]) - batch["y"]) ** 2).mean()


def linear() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"net": nn.Linear(1, 1)}


def quiet(title: str, share: float) -> None:
    assert title
    assert 0 <= share <= 1


class KilledError(Exception):
    pass


def noisy(
    nets: Mapping[str, nn.Module], batch: dict[str, Tensor], generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    x = batch["x"] + 0.1 * torch.randn(batch["x"].shape, generator=generator)
    yield "net", ((nets["net"](x) - batch["y"]) ** 2).mean()


def same(one: Mapping[str, nn.Module], other: Mapping[str, nn.Module]) -> bool:
    pairs = zip(one.values(), other.values(), strict=True)
    return all(
        torch.equal(a, b) for x, y in pairs for a, b in zip(x.parameters(), y.parameters(), strict=True)
    )


def test_a_line_is_found(tmp_path: Path) -> None:
    nets = linear()
    took = fit(nets, Line(), squared, Fit(steps=600, batch=4, workers=0, learning_rate=0.05), tmp_path, quiet)
    assert took["steps"] == 600
    weight, bias = (float(p.detach()) for p in nets["net"].parameters())
    assert weight == pytest.approx(3, abs=0.05)
    assert bias == pytest.approx(-1, abs=0.05)


@pytest.mark.parametrize("muon", [False, True])
def test_a_run_killed_on_the_way_ends_with_the_same_bits(tmp_path: Path, muon: bool) -> None:
    whole, how = linear(), replace(QUICK, muon=muon)
    fit(whole, Line(), noisy, how, tmp_path / "whole", quiet, seed=3)

    def killing(
        nets: Mapping[str, nn.Module], batch: dict[str, Tensor], generator: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        steps.append(1)
        if len(steps) == 7:
            raise KilledError
        yield from noisy(nets, batch, generator)

    steps: list[int] = []
    with pytest.raises(KilledError):
        fit(linear(), Line(), killing, how, tmp_path / "parts", quiet, seed=3)
    again = linear()
    fit(again, Line(), noisy, how, tmp_path / "parts", quiet, seed=3)
    assert same(whole, again)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))


def test_a_part_at_another_pace_takes_longer_steps(tmp_path: Path) -> None:
    """Adam's first step is as long as the rate is by then, whatever the gradient."""
    how = Fit(steps=1, batch=4, workers=0, learning_rate=0.01, weight_decay=0.0)
    moved = []
    for name, paces in (("even", None), ("fast", {"net": 3.0, "another": 7.0})):
        nets = linear()
        before = [p.detach().clone() for p in nets["net"].parameters()]
        fit(nets, Line(), squared, how, tmp_path / name, quiet, paces=paces)
        after = list(nets["net"].parameters())
        moved.append([abs(float((a - b).detach())) for a, b in zip(after, before, strict=True)])
    assert moved[0] == pytest.approx([moved[0][0]] * 2, rel=1e-3)
    assert moved[1] == pytest.approx([3 * step for step in moved[0]], rel=1e-3)
    assert moved[0][0] > 0


def test_another_seed_draws_other_noise(tmp_path: Path) -> None:
    one, other = linear(), linear()
    fit(one, Line(), noisy, QUICK, tmp_path / "one", quiet, seed=3)
    fit(other, Line(), noisy, QUICK, tmp_path / "other", quiet, seed=4)
    assert not same(one, other)


def test_parts_step_one_after_the_other(tmp_path: Path) -> None:
    """The second loss sees the first part's new weights, as a generator sees its discriminator's."""
    seen: list[bool] = []

    def both(
        nets: Mapping[str, nn.Module], batch: dict[str, Tensor], _: torch.Generator
    ) -> Iterator[tuple[str, Tensor]]:
        before = nets["first"].weight.detach().clone()
        yield "first", ((nets["first"](batch["x"]) - batch["y"]) ** 2).mean()
        seen.append(not torch.equal(before, nets["first"].weight))
        yield "second", ((nets["second"](batch["x"]) - nets["first"](batch["x"])) ** 2).mean()

    nets = {"first": linear()["net"], "second": linear()["net"]}
    first = nets["first"].weight.detach().clone()
    fit(nets, Line(), both, Fit(steps=300, batch=4, learning_rate=0.05), tmp_path, quiet)
    assert all(seen)
    assert not torch.equal(first, nets["first"].weight)
    assert nets["second"].weight.item() == pytest.approx(nets["first"].weight.item(), abs=0.1)
    line = json.loads((tmp_path / "losses.jsonl").read_text().splitlines()[-1])
    assert line["loss"] == pytest.approx(line["first"] + line["second"], abs=1e-4)


def test_a_watch_sees_the_average_and_changes_nothing(tmp_path: Path) -> None:
    plain, watched = linear(), linear()
    weights: list[float] = []

    def watch(nets: Mapping[str, nn.Module], step: int) -> Mapping[str, float]:
        assert not nets["net"].training
        weights.append(nets["net"].weight.item())
        return {"weight": weights[-1]}

    fit(plain, Line(), squared, QUICK, tmp_path / "plain", quiet)
    fit(watched, Line(), squared, replace(QUICK, watch_s=0.0), tmp_path / "watched", quiet, watch=watch)
    assert same(plain, watched)
    lines = [json.loads(line) for line in (tmp_path / "watched" / "watch.jsonl").read_text().splitlines()]
    assert [line["weight"] for line in lines] == pytest.approx(weights, abs=1e-5)
    assert weights[-1] == plain["net"].weight.item()


_TWO = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from test_fit import QUICK, Line, linear, quiet, squared
from models.fit import fit
from accelerate import PartialState
here = PartialState(cpu=True)
assert here.num_processes == 2
nets = linear()
fit(nets, Line(), squared, QUICK, Path(sys.argv[1]), quiet)
save_file(nets["net"].state_dict(), Path(sys.argv[1]) / f"rank{here.process_index}.safetensors")
"""


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += [str(script), str(tmp_path)]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    done = subprocess.run(
        launch, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one = linear()
    fit(one, Line(), squared, QUICK, tmp_path / "one", quiet)
    for rank in range(2):
        found = load_file(tmp_path / f"rank{rank}.safetensors")
        for name, value in one["net"].state_dict().items():
            assert torch.allclose(found[name], value, atol=1e-6)


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
        fit({"net": nn.Linear(1, 2)}, Line(), squared, QUICK, tmp_path, quiet)
    with pytest.raises(ValueError, match="another's"):
        fit({"other": nn.Linear(1, 1)}, Line(), squared, QUICK, tmp_path, quiet)
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
    net, other = linear()["net"], nn.Linear(1, 1)
    save_weights(net.state_dict(), {**card(), "name": "line"}, tmp_path / "line.safetensors")
    assert load_weights(other, tmp_path / "line.safetensors")["name"] == "line"
    assert other.weight.item() == pytest.approx(net.weight.item(), rel=1e-3)
    assert {t.dtype for t in load_file(tmp_path / "line.safetensors").values()} == {torch.float16}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["line.json", "line.safetensors"]


def test_weights_without_card_or_with_nan_or_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match="model card"):
        save_weights(linear()["net"].state_dict(), {"name": "line"}, path)
    with pytest.raises(ValueError, match="finite weights"):
        save_weights({"a": torch.tensor([torch.nan])}, card(), path)
    with pytest.raises(ValueError, match="at most 16 MiB"):
        save_weights({"a": torch.zeros(9 * 2**20)}, card(), path)
    with pytest.raises(ValueError, match="got none"):
        read_card(path)
    save_weights(linear()["net"].state_dict(), card(), path)
    with pytest.raises(ValueError, match="fit the network"):
        load_weights(nn.Linear(2, 2), path)


def test_a_network_of_more_channels_starts_from_one_of_fewer(tmp_path: Path) -> None:
    few, many = nn.Conv1d(2, 3, 1), nn.Conv1d(6, 3, 1)
    save_weights(few.state_dict(), card(), tmp_path / "few.safetensors")
    start_from(many, tmp_path / "few.safetensors")
    x = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(many(x.repeat(1, 3, 1)), few(x), atol=2e-3)
    with pytest.raises(ValueError, match="like this one"):
        start_from(nn.Conv1d(6, 4, 1), tmp_path / "few.safetensors")


def test_a_network_of_another_answer_starts_from_the_layers_of_one_shape(tmp_path: Path) -> None:
    def net(answers: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, answers))

    one, other = net(5), net(2)
    save_weights(one.state_dict(), card(), tmp_path / "one.safetensors")
    own = {name: t.clone() for name, t in other.state_dict().items()}
    start_from(other, tmp_path / "one.safetensors", partly=True)
    found = other.state_dict()
    assert all(
        torch.allclose(found[f"{n}.weight"], one.state_dict()[f"{n}.weight"], atol=1e-3) for n in (0, 1)
    )
    assert torch.equal(found["2.weight"], own["2.weight"])
    with pytest.raises(ValueError, match="like this one"):
        start_from(nn.Sequential(nn.Linear(3, 7)), tmp_path / "one.safetensors", partly=True)
