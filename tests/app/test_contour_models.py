"""Contours by approved models go out unmarked and as they are configured; all others mark every file."""

import dataclasses
import json
from pathlib import Path

import nibabel as nib
import nrrd  # type: ignore[import-untyped] # it has none
import numpy as np
import pytest
import torch
from pydicom import dcmread

from app import catalogue as models
from app import contoured as command
from app.approved import MARK
from app.contour_models import HEAD, OAR, OWN, TUMOUR, ContourModels, contour_models
from app.contoured import Asked, Contourer, contour_scans
from imaging.folder import read_case
from imaging.grid import axial
from imaging.nifti import write_nifti
from imaging.phantoms import sphere
from imaging.volume import Quantity, Volume
from models.unet import UNetConfig, unet
from models.weights import save_weights
from planning.contour.convert import Contoured
from planning.contour.nets import HEAD_NET, ORGAN_NET
from planning.contour.template import read_template

TEMPLATE = """
[[structure]]
is = "Eye_L"
name = "Oog links"
type = "ORGAN"
color = [1, 2, 3]
[[structure]]
is = "GTV"
name = "Tumor"
type = "GTV"
color = [4, 5, 6]
"""


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small networks in place of those that ship, and a catalogue of the test's."""
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    for place in (models, command):
        monkeypatch.setattr(place, "ZOO", tmp_path / "zoo")
    monkeypatch.setattr("app.contour_models.ZOO", tmp_path / "zoo")
    write_nets(tmp_path / "zoo", 0)
    (tmp_path / "clinic.toml").write_text(TEMPLATE)
    return tmp_path / "zoo"


def write_nets(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    for name, of in (("head", HEAD_NET), ("organs", ORGAN_NET)):
        config = UNetConfig(4, len(of.classes.names), (4, 4, 4, 4, 4, 4), deep=2)
        card: dict[str, object] = dict.fromkeys(
            ("data", "licence", "split", "budget", "metrics", "limits", "does"), ""
        )
        said = {"contrasts": ["t1", "t1c", "t2", "flair"], "classes": of.classes.names, "spacing": 3.0}
        card |= {"name": name, "config": config.as_json() | said}
        save_weights(unet(config).state_dict(), card, folder / f"contour-{name}.safetensors")


def approve(*names: str, template: Path | None = None) -> None:
    models.import_shipped("Marie", "trial")
    for name in names:
        models.configure(name, "", template, "head", "Marie", "trial")
        models.catalogue().approve(name, "", "Marie", "20 patients reviewed")


def states(found: ContourModels) -> dict[str, str]:
    return {m["name"]: m["state"] for m in found.models}


def test_without_approval_what_ships_runs_marked_and_under_the_revision_it_would_have(tmp_path: Path) -> None:
    found = contour_models()
    assert found.mark == MARK
    assert states(found) == {TUMOUR: "unapproved", OAR: "unapproved"}
    assert found.template == read_template()
    models.import_shipped("Marie", "trial")
    known = {m.name: m.revision for m in models.catalogue().models()}
    assert {m["name"]: m["revision"] for m in found.models} == {n: known[n] for n in (TUMOUR, OAR)}
    assert any("every file says so" in line for line in found.lines())
    own = contour_models(tmp_path / "zoo", tmp_path / "clinic.toml")
    assert (own.mark, states(own)) == (MARK, {OWN: "unapproved"})
    assert [e.name for e in own.template] == ["Oog links", "Tumor"]


def test_approved_models_run_unmarked_with_the_names_that_they_are_configured_with(
    tmp_path: Path, zoo: Path
) -> None:
    approve(OAR, template=tmp_path / "clinic.toml")
    half = contour_models()
    assert (half.mark, states(half)) == (MARK, {TUMOUR: "unapproved", OAR: "approved"})
    # The eye is the organs' model's to name, the tumour that of the other, which has no template.
    assert [e.name for e in half.template] == ["Oog links", "GTV", "Edema", "Cavity_Resect"]
    approve(TUMOUR)
    found = contour_models()
    assert (found.mark, states(found)) == ("", {TUMOUR: "approved", OAR: "approved"})
    assert all(tmp_path / "models" in path.parents for path in found.files.values())
    assert contour_models(template=zoo.parent / "clinic.toml").template != found.template
    models.catalogue().retire(TUMOUR, "", "Marie", "tired")
    assert contour_models().mark == MARK


def test_altered_weights_and_two_networks_for_one_head_are_refused(tmp_path: Path, zoo: Path) -> None:
    approve(OAR, TUMOUR)
    weights = contour_models().files[HEAD].resolve()
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="missing or altered"):
        contour_models()
    weights.write_bytes(data)
    models.catalogue().retire(TUMOUR, "", "Marie", "a new one")
    write_nets(zoo, 1)
    approve(TUMOUR)
    with pytest.raises(ValueError, match=f"with one {HEAD}, got approved models of two"):
        contour_models()


@dataclasses.dataclass(frozen=True, eq=False)
class Ball(Contourer):
    """A tumour where there is a ball."""

    def __call__(self, mr: Volume) -> Contoured:
        body = mr.data.amax(dim=0) > 0
        labels = Volume(3 * body[None].to(torch.uint8), mr.grid, Quantity.LABEL, mr.frame)
        return Contoured({"Body": body, "GTV": body}, labels, {"Body": 1.0, "GTV": 0.9}, {}, {})


@pytest.mark.parametrize("unapproved", [True, False])
def test_every_file_is_marked_or_none(
    unapproved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = torch.nn.Identity()
    monkeypatch.setattr(command, "contourer_of", lambda *_: Ball(net, net, HEAD_NET, ORGAN_NET, None))
    grid = axial(np.full(3, -60.0), np.full(3, 60.0), (3.0, 3.0, 4.0))
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(1))
    head = sphere(grid, np.zeros(3), 55.0) * (100 + 50 * noise)
    write_nifti(Volume(head[None], grid, Quantity.MR), tmp_path / "t1.nii.gz")
    if not unapproved:
        approve(OAR, TUMOUR)
    out = tmp_path / "out"
    contour_scans(Asked((tmp_path / "t1.nii.gz",), out, contour_models()), lambda *_: None)
    said = {
        "RTSTRUCT.dcm": dcmread(out / "RTSTRUCT.dcm").StructureSetLabel,
        "RTSTRUCT series": dcmread(out / "RTSTRUCT.dcm").SeriesDescription,
        "MR": dcmread(next((out / "MR").iterdir())).SeriesDescription,
        "structures.seg.nrrd": nrrd.read_header(str(out / "structures.seg.nrrd"))["Comment"],
        "labels.txt": (out / "labels.txt").read_text(),
        "contours.json": json.loads((out / "contours.json").read_text())["mark"],
        "case": read_case(out / "masks").source.mark,
    }
    for path in out.rglob("*.nii.gz"):
        said[path.name] = bytes(nib.load(path).header["descrip"]).decode()
    kinds = {path.relative_to(out).parts[0] for path in out.rglob("*") if path.is_file()}
    assert kinds <= {*said, "masks"}
    assert {name: MARK in text for name, text in said.items()} == dict.fromkeys(said, unapproved)
    assert len(json.loads((out / "contours.json").read_text())["models"]) == 2
