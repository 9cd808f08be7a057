import hashlib
import json
from pathlib import Path

import pytest
import torch

from models.encoder import Encoder, EncoderConfig, embed, load_encoder, save_encoder, weights_hash
from models.weights import CARD

TINY = EncoderConfig(channels=(8, 8, 16, 24), blocks=(1, 1, 1, 1))


def images(n: int, seed: int = 0, side: int = 32) -> torch.Tensor:
    return 2 * torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) - 1


def tiny() -> Encoder:
    torch.manual_seed(0)
    return Encoder(TINY)


def test_an_image_becomes_128_numbers_and_the_weights_stay_under_three_mebibytes() -> None:
    net = Encoder(EncoderConfig())
    assert embed(net, images(2, side=64)).shape == (2, 128)
    assert sum(p.numel() for p in net.parameters()) * 2 < 3 * 2**20


def test_features_depend_on_the_image_alone_and_not_on_its_batch() -> None:
    net, shown = tiny(), images(5)
    together = embed(net, shown)
    # Batches of another size are summed in another order: rounding of float32 is left.
    assert torch.allclose(together[3:4], embed(net, shown[3:4]), rtol=1e-3, atol=1e-4)
    assert torch.allclose(together, embed(net, shown, chunk=2), rtol=1e-3, atol=1e-4)
    twice = embed(net, torch.cat([shown[:1], shown[:1]]))
    assert torch.equal(twice[0], twice[1])
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_bfloat16_is_near_float32() -> None:
    torch.manual_seed(0)
    net, shown = Encoder(EncoderConfig(blocks=(1, 1, 1, 1))), images(3, side=64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = net(shown)
    assert half.dtype == torch.float32
    # Eight bits of mantissa, through nine layers.
    assert float(torch.cosine_similarity(half, embed(net, shown)).min()) > 0.995


def test_a_saved_encoder_comes_back_with_its_card_and_hash(tmp_path: Path) -> None:
    net, path = tiny(), tmp_path / "encoder.safetensors"
    save_encoder(net, dict.fromkeys(CARD, "") | {"name": "tiny"}, path)
    found, card = load_encoder(path)
    assert (card["name"], found.config) == ("tiny", TINY)
    # Half precision: eleven bits of each weight are left.
    assert torch.allclose(embed(found, images(2)), embed(net, images(2)), rtol=1e-2, atol=1e-2)
    assert weights_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "config",
    [
        None,
        {"inputs": 1, "outputs": 10, "features": [32, 48, 96, 128, 128, 96]},
        {"inputs": 1, "channels": [8, 8, 16, 10**12], "blocks": [1, 1, 1, 1]},
        {"inputs": 1, "channels": [8, 8, 16], "blocks": [1, 1, 1, 1]},
        {"inputs": 1, "channels": [8, 8, 16, 24], "blocks": [1, 1, 1, 10**9]},
    ],
)
def test_cards_of_other_networks_are_refused_in_one_sentence(tmp_path: Path, config: object) -> None:
    path = tmp_path / "encoder.safetensors"
    save_encoder(tiny(), dict.fromkeys(CARD, ""), path)
    path.with_suffix(".json").write_text(json.dumps({"config": config}))
    with pytest.raises(ValueError, match="card of an encoder of slices"):
        load_encoder(path)


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with a card"):
        load_encoder(tmp_path / "encoder.safetensors")
