import hashlib
import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.generator import Generator, GeneratorConfig, Predicts, build
from models.pipeline import GeneratorPipeline, fingerprint
from models.samplers import flow_euler, one_pass, shortcut
from models.weights import CARD

HOW = GeneratorConfig(
    classes=2,
    contrasts=2,
    channels=(16, 16),
    blocks=1,
    widths=3,
    band_std=(1.5, 1.5, 0.5, 0.5, 0.5, 0.5, 0.2, 0.2),
)
CARDED = {**dict.fromkeys(CARD, "-"), "name": "toy", "metrics": {"kid": 0.1}}


def pipeline(how: GeneratorConfig = HOW) -> GeneratorPipeline:
    net = build(how)
    nn.init.normal_(net.net.out[2].conv.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    made = GeneratorPipeline(net.eval())
    made.card = CARDED
    return made


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def condition(n: int = 2, planes: int = 2, side: int = 8) -> torch.Tensor:
    return torch.rand(n, planes, side, side, generator=generator(1))


WEIGHTS = "net/diffusion_pytorch_model.safetensors"


def test_a_pipeline_comes_back_to_the_bit_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pipeline()
    made.save_pretrained(tmp_path / "toy")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    again = GeneratorPipeline.from_pretrained(tmp_path / "toy")
    drawn = [p(condition(), generator(), n_steps=2, sampler=flow_euler) for p in (made, again)]
    assert torch.equal(drawn[0], drawn[1])
    assert drawn[0].shape == (2, 2, 8, 8)
    assert again.card == CARDED
    assert again.net.settings == HOW
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    names = ["README.md", "card.json", "model_index.json", "net/config.json", WEIGHTS]
    assert files == sorted(f"toy/{name}" for name in names)
    readme = (tmp_path / "toy" / "README.md").read_text()
    assert "# toy" in readme
    assert '"kid": 0.1' in readme


def test_half_precision_takes_half_the_bytes_and_loads_as_single(tmp_path: Path) -> None:
    made = pipeline()
    made.save_pretrained(tmp_path / "half", half=True)
    kept = load_file(tmp_path / "half" / WEIGHTS)
    assert {t.dtype for t in kept.values()} == {torch.float16}
    assert next(made.net.parameters()).dtype == torch.float32  # what was saved is a copy
    again = GeneratorPipeline.from_pretrained(tmp_path / "half")
    for name, t in made.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], t.half().float())


def test_the_fingerprint_is_that_of_the_weights(tmp_path: Path) -> None:
    made = pipeline()
    made.save_pretrained(tmp_path / "a")
    made.card = {**CARDED, "does": "something else"}
    made.save_pretrained(tmp_path / "b")
    whole = hashlib.sha256((tmp_path / "a" / WEIGHTS).read_bytes()).hexdigest()
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b") == whole
    with torch.no_grad():
        next(made.net.parameters()).add_(1e-3)
    made.save_pretrained(tmp_path / "b")  # a pipeline's folder is replaced
    assert fingerprint(tmp_path / "b") != whole
    with pytest.raises(ValueError, match="without weights"):
        fingerprint(tmp_path)


def test_a_card_of_many_numbers_is_short_to_read_and_says_the_same(tmp_path: Path) -> None:
    made = pipeline()
    told = {"numbers": list(range(1000)), "rates": [1e-5, -2.5], "words": ["[ 1,  2 ]"], "none": []}
    made.card = {**CARDED, "data": told}
    made.save_pretrained(tmp_path / "kept")
    text = (tmp_path / "kept" / "card.json").read_text()
    assert json.loads(text)["data"] == told
    assert "[0, 1, 2," in text
    assert len(text.splitlines()) < 40
    assert len((tmp_path / "kept" / "README.md").read_text().splitlines()) < 60


def test_cards_and_weights_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    made = pipeline()
    made.card = {"name": "toy"}
    with pytest.raises(ValueError, match="expected a card"):
        made.save_pretrained(tmp_path / "toy")
    made.card = CARDED
    with torch.no_grad():
        next(made.net.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="finite weights"):
        made.save_pretrained(tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thesis.md").write_text("mine")
    with pytest.raises(ValueError, match="new folder"):
        pipeline().save_pretrained(tmp_path)
    assert (tmp_path / "thesis.md").read_text() == "mine"


def test_strange_folders_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good"
    pipeline().save_pretrained(good)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    pickled = copy("pickled")
    torch.save({"a": torch.zeros(1)}, pickled / "net" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors alone"):
        GeneratorPipeline.from_pretrained(pickled)
    coded = copy("coded")
    (coded / "pipeline.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match=r"pipeline\.py"):
        GeneratorPipeline.from_pretrained(coded)
    linked = copy("linked")
    (linked / WEIGHTS).unlink()
    (linked / WEIGHTS).symlink_to(good / WEIGHTS)
    with pytest.raises(ValueError, match="do not trust it"):
        GeneratorPipeline.from_pretrained(linked)
    other = copy("other")
    index = json.loads((other / "model_index.json").read_text())
    (other / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ValueError, match="StableDiffusionPipeline"):
        GeneratorPipeline.from_pretrained(other)
    for name, damage in {
        "less": lambda w: dict(list(w.items())[1:]),
        "more": lambda w: {**w, "x": torch.zeros(1)},
    }.items():
        folder = copy(name)
        save_file(damage(load_file(folder / WEIGHTS)), folder / WEIGHTS)
        with pytest.raises(ValueError, match="fit the settings"):
            GeneratorPipeline.from_pretrained(folder)
    torn = copy("torn")
    (torn / WEIGHTS).write_bytes((good / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ValueError, match="fit the settings"):
        GeneratorPipeline.from_pretrained(torn)
    (torn / "card.json").write_text("[1")
    with pytest.raises(ValueError, match=r"card\.json"):
        GeneratorPipeline.from_pretrained(torn)
    with pytest.raises(ValueError, match=r"model_index\.json"):
        GeneratorPipeline.from_pretrained("somebody/model")
    with pytest.raises(ValueError, match="a folder alone"):
        GeneratorPipeline.from_pretrained(good, trust_remote_code=True)


def test_known_voxels_come_back_to_the_bit() -> None:
    image = torch.randn(2, 2, 8, 8, generator=generator(5)) * 1e3
    known = torch.zeros(2, 2, 8, 8)
    known[0, 0] = 1
    known[1, :, 3:] = 1
    drawn = pipeline()(condition(), generator(), known, image, n_steps=3, guidance=2.0)
    assert torch.equal(drawn[known > 0], image[known > 0])
    assert not torch.isin(drawn[known == 0], image[known == 0]).any()
    # What is not known is not looked at.
    other = torch.where(known > 0, image, torch.nan)
    assert torch.equal(pipeline()(condition(), generator(), known, other, n_steps=3, guidance=2.0), drawn)


def test_the_same_seed_draws_the_same_and_guidance_of_one_is_none() -> None:
    made, none = pipeline(), torch.zeros_like(condition())
    drawn = made(condition(), generator(), n_steps=2)
    assert torch.equal(drawn, made(condition(), generator(), n_steps=2, guidance=1.0))
    assert not torch.equal(drawn, made(condition(), generator(4), n_steps=2))
    assert not torch.equal(drawn, made(condition(), generator(), n_steps=2, guidance=2.0))
    torch.testing.assert_close(
        made(none, generator(), n_steps=2),
        made(none, generator(), n_steps=2, guidance=5.0),
        atol=0.05,
        rtol=0.05,
    )


def test_a_network_without_an_answer_leaves_the_noise() -> None:
    # Velocity 0 stays where it is: unit noise in each band, scaled by the band's deviation.
    made = GeneratorPipeline(
        build(GeneratorConfig(classes=0, channels=(16, 16), blocks=1, band_std=(2.0,) * 4))
    )
    drawn = made(torch.zeros(4, 0, 64, 64), generator(), n_steps=3, half=False)
    assert float(drawn.std()) == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize(
    ("predicts", "widths"), [(Predicts.NOISE, 0), (Predicts.BANDS, 1), (Predicts.VELOCITY, 3)]
)
def test_each_kind_of_network_draws_with_its_usual_sampler(predicts: Predicts, widths: int) -> None:
    made = pipeline(GeneratorConfig(classes=2, channels=(16, 16), blocks=1, predicts=predicts, widths=widths))
    drawn = made(condition(), generator())
    assert drawn.shape == (2, 1, 8, 8)
    assert torch.isfinite(drawn).all()
    if predicts is Predicts.BANDS:
        assert torch.equal(drawn, made(condition(), generator(), n_steps=1, sampler=one_pass))
    if predicts is Predicts.VELOCITY:
        assert torch.isfinite(made(condition(), generator(), n_steps=4, sampler=shortcut)).all()


def test_volumes_start_from_a_render() -> None:
    how = GeneratorConfig(space=3, contrasts=4, classes=12, channels=(16, 16), blocks=1, render_share=0.8)
    made, planes = GeneratorPipeline(build(how)), torch.zeros(1, 12, 8, 8, 8)
    render = torch.randn(1, 4, 8, 8, 8, generator=generator(2))
    drawn = made(planes, generator(), render=render, n_steps=1, half=False)  # the network still answers 0
    joint = torch.stack([drawn.flatten(), render.flatten()])
    assert float(torch.corrcoef(joint)[0, 1]) == pytest.approx(0.8, abs=0.05)
    with pytest.raises(ValueError, match="render of the labels"):
        made(planes, generator())


def test_shapes_that_do_not_fit_are_refused() -> None:
    made = pipeline()
    with pytest.raises(ValueError, match="2 planes of 2 sides that are multiples of 4"):
        made(condition(planes=3), generator())
    with pytest.raises(ValueError, match="multiples of 4"):
        made(condition(side=10), generator())
    with pytest.raises(ValueError, match="one without the other"):
        made(condition(), generator(), known=torch.zeros(2, 2, 8, 8))
    with pytest.raises(ValueError, match="of shape"):
        made(condition(), generator(), torch.zeros(2, 2, 8, 8), torch.zeros(2, 2, 4, 4))


def test_the_network_is_a_component_of_diffusers() -> None:
    made = pipeline()
    assert isinstance(made.components["net"], Generator)
    assert made.to(torch.device("cpu")).device.type == "cpu"
