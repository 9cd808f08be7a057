"""`spindose models` as a clinic uses it."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from app.cli import app
from models.unet import UNetConfig, unet
from models.weights import save_weights

NET = UNetConfig(1, 2, (4, 4, 4, 4, 4, 4))


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["models", *(str(w) for w in words)])
    return done.exit_code, " ".join(done.output.split())


def told(*words: object) -> Any:
    done = CliRunner().invoke(app, ["models", *(str(w) for w in words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights with their card; the catalogue is a folder of the test's."""
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    torch.manual_seed(1)
    card = dict.fromkeys(("data", "licence", "split", "budget", "metrics", "limits", "does"), "none")
    card |= {"name": "net", "config": NET.as_json()}
    save_weights(unet(NET).state_dict(), card, tmp_path / "given" / "net.safetensors")
    return tmp_path / "given"


def imported(folder: Path) -> str:
    words = ("--name", "our-oar", "--originator", "clinic", "--does", "Contours eyes")
    return str(told("import", folder, *words, "--by", "Marie", "--why", "trial")["imported"][0]["revision"])


def test_a_clinic_imports_configures_approves_and_retires(folder: Path) -> None:
    assert "No models yet" in run("list")[1]
    revision = imported(folder)
    assert told("list")["models"] == [{"name": "our-oar", "revision": revision, "state": "imported"}]
    code, said = run("approve", "our-oar", "--why", "good")
    assert code == 2
    assert "expected a model that is configured to approve" in said
    assert told("configure", "our-oar", "--site", "head and neck")["state"] == "configured"
    assert (
        told("approve", "our-oar", "--why", "20 patients reviewed", "--by", "Pierre")["state"] == "approved"
    )
    shown = told("show", "our-oar")
    assert shown["config"] == {"site": "head and neck"}
    assert shown["files"].keys() == {"net.json", "net.safetensors"}
    assert "not a medical device" in shown["note"]
    assert told("retire", "our-oar", "--why", "tired")["state"] == "retired"
    lines = told("history", "our-oar")["history"]
    assert [(line["what"], line["who"]) for line in lines][::2] == [
        ("import", "Marie"),
        ("approve", "Pierre"),
    ]
    assert "20 patients reviewed" in run("history")[1]


def test_a_pack_is_imported_elsewhere_as_imported_and_holds_no_image(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = imported(folder)
    run("configure", "our-oar")
    pack = tmp_path / "oar.spdm"
    assert told("pack", "our-oar", "--out", pack)["revision"] == revision
    with zipfile.ZipFile(pack) as archive:
        assert set(archive.namelist()) == {"manifest.json", "model.json", "net.json", "net.safetensors"}
        weights = archive.read("net.safetensors")
    # Weights are the network's and nothing else: as many numbers, and a header of their names.
    count = sum(p.numel() for p in unet(NET).parameters())
    size = int.from_bytes(weights[:8], "little")
    assert len(weights) == 8 + size + 2 * count
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "elsewhere"))
    there = told("import", pack)["imported"]
    assert there[0]["name"] == "our-oar"
    assert told("list")["models"][0]["state"] == "imported"  # another clinic's approval is not ours
    assert told("show", "our-oar")["does"] == "Contours eyes"


def test_altered_weights_wrong_cards_and_unknown_networks_are_refused(folder: Path, tmp_path: Path) -> None:
    revision = imported(folder)
    run("configure", "our-oar")
    kept = tmp_path / "models" / "models--clinic--our-oar" / "snapshots" / revision / "net.safetensors"
    kept.write_bytes(kept.read_bytes()[:-2] + b"\x00\x01")
    code, said = run("approve", "our-oar", "--why", "good")
    assert code == 2
    assert "missing or altered" in said
    words = ("--name", "other", "--originator", "clinic", "--does", "Contours ears")
    card = json.loads((folder / "net.json").read_text())
    for harm, sentence in (
        ({**card, "config": {"layers": 3}}, "expected a card whose config tells inputs"),
        ({**card, "config": {**card["config"], "outputs": 3}}, "expected weights that fit the network"),
        ({**card, "config": {**card["config"], "features": [4000] * 6}}, "at most 1024 channels"),
        ({k: v for k, v in card.items() if k != "licence"}, "got none for licence"),
    ):
        (folder / "net.json").write_text(json.dumps(harm))
        code, said = run("import", folder, *words)
        assert code == 2, said
        assert sentence in said
    (folder / "net.json").write_text(json.dumps(card))
    (folder / "more.pkl").write_bytes(b"\x80\x04.")
    assert "never as pickles" in run("import", folder, *words)[1]
    (folder / "more.pkl").unlink()
    assert run("import", tmp_path / "nothing.spdm")[0] == 2
    assert (
        "expected does in 1 to 200 characters" in run("import", folder, "--name", "x", "--originator", "y")[1]
    )
    assert [m["name"] for m in told("list")["models"]] == ["our-oar"]


def test_models_that_come_along_are_imported_once_with_what_a_clinic_asks(folder: Path) -> None:
    names = {m["name"] for m in told("import", "shipped")["imported"]}
    assert "mr2ct" in names
    assert told("import", "shipped")["imported"] == []
    shown = told("show", "mr2ct")
    assert shown["originator"] == "spindose"
    assert shown["modality"] == "MR"
    assert set(shown["licence"]) == {"mr2ct-0.safetensors", "mr2ct-1.safetensors"}
