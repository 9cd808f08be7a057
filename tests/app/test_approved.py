"""Only models that the catalogue has approved run in plans, or every output says so."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from typer.testing import CliRunner

from app import catalogue as models
from app.approved import MARK, with_models
from app.cli import app
from app.head_ct import asked
from app.request import Request
from imaging.dicom.writer import write_mr
from imaging.grid import axial
from imaging.source import Source
from imaging.volume import Quantity, Volume
from planning.plan import Prescription

REQUEST = Request(Prescription(60.0, 30))


@pytest.fixture
def approved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue in which the networks of CT numbers that ship are approved."""
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    models.import_shipped("Marie", "trial")
    models.configure("mr2ct", "", None, "head", "Marie", "trial")
    models.catalogue().approve("mr2ct", "", "Marie", "20 patients planned and recomputed")
    return tmp_path / "models"


def test_without_an_approved_model_nothing_is_planned_unless_every_output_may_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINDOSE_MODELS", str(tmp_path / "models"))
    with pytest.raises(ValueError, match="expected an approved model mr2ct"):
        with_models(REQUEST)
    assert with_models(REQUEST, allow_unapproved=True).mark == MARK
    bulk = Request(Prescription(60.0, 30), networks=False)
    assert with_models(bulk) is bulk  # no model runs
    (tmp_path / "mr.nii.gz").write_bytes(b"")
    words = ["plan", str(tmp_path / "mr.nii.gz"), "--target", "0,0,0,10", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "expected an approved model mr2ct, got none in the catalogue" in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_an_approved_model_runs_unmarked_and_under_its_revision(approved: Path) -> None:
    request = with_models(REQUEST, allow_unapproved=True)
    assert request.mark == ""
    assert [p.name for p in request.ct_weights] == ["mr2ct-0.safetensors", "mr2ct-1.safetensors"]
    assert all(approved in p.parents for p in request.ct_weights)
    assert request.ct_intervals is not None
    assert request.ct_model == f"mr2ct {models.catalogue().approved('mr2ct').revision[:12]}"
    # The same bytes as those that ship: a plan that was begun with them goes on.
    assert asked(request) == asked(REQUEST)


def test_altered_weights_and_a_changed_history_do_not_run_even_if_all_is_allowed(approved: Path) -> None:
    weights = with_models(REQUEST).ct_weights[0].resolve()
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="missing or altered"):
        with_models(REQUEST, allow_unapproved=True)
    weights.write_bytes(data)
    models.catalogue().retire("mr2ct", "", "Marie", "tired")
    with pytest.raises(ValueError, match="expected an approved model"):
        with_models(REQUEST)


def test_a_mark_stands_in_every_series(tmp_path: Path) -> None:
    grid = axial(np.zeros(3), np.full(3, 8.0), (1.0, 1.0, 2.0))
    write_mr(Volume(torch.rand(1, *grid.shape), grid, Quantity.MR), Source(mark=MARK), tmp_path / "mr")
    for file in (tmp_path / "mr").iterdir():
        assert dcmread(file).SeriesDescription == "RESEARCH ONLY UNAPPROVED MODEL synthetic MR"
