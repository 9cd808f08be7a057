import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pypdf import PdfReader
from typer.testing import CliRunner

from app.cli import app
from app.optimised import keep_plan
from app.patient import Planned
from app.publish import publish
from app.report.facts import Code, Report, Section, Table, Verdict
from app.report.html import write_html
from app.report.pdf import write_pdf
from app.report.seal import chain, write_seal
from app.report.sign import expect_signed, sign
from app.report.tables import beams as beams_table
from app.report.tables import goals as goals_tables
from app.request import Request
from app.steps import Walk
from imaging.case import Case
from imaging.dicom.header import complete
from imaging.grid import axial
from imaging.phantoms import sphere
from imaging.source import Source
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.beams import Beam, ControlPoint
from planning.dose.forward import calculate
from planning.machine import load_machine
from planning.plan import Plan, Prescription
from planning.plan_file import read_plan

RX = Prescription(2.0, 1)
MACHINE = load_machine("generic-6mv")
EDGE = np.array([40.0, 40.0, 40.0])
GRID = axial(-EDGE, EDGE, (5.0, 5.0, 5.0))
SOURCE = complete(
    Source(patient_id="ID-8842", patient_name="QUILLFEATHER^ROWENA", birth_date="19610203"), "a phantom"
)
BALL = sphere(GRID, np.zeros(3), 33.0)
WHO = ("ID-8842", "QUILLFEATHER", "ROWENA", "19610203")


def quiet(title: str, share: float) -> None:
    pass


def planned() -> Planned:
    """A ball of water with one open field."""
    drawn = StructureSet(
        GRID,
        {
            "Body": Structure(BALL, RoiType.EXTERNAL, (0, 255, 0)),
            "PTV": Structure(sphere(GRID, np.zeros(3), 12.0), RoiType.PTV, (255, 0, 0), 2.0),
        },
        SOURCE.frame,
    )
    n = len(MACHINE.mlc.boundaries) - 1
    leaves = np.stack([np.full(n, -16.0), np.full(n, 16.0)])
    ends = tuple(ControlPoint(m, 0.0, (-16.0, 16.0), (-20.0, 20.0), leaves) for m in (0.0, 1.0))
    plan = Plan((Beam(0.0, 0.0, 0.0, np.zeros(3), "front", 200.0, ends),), RX, MACHINE.name)
    scan = Case({"mr": Volume(100 * BALL[None].float(), GRID, Quantity.MR, SOURCE.frame)}, source=SOURCE)
    ct = Volume(torch.where(BALL[None], 0.0, -1000.0), GRID, Quantity.HU, SOURCE.frame)
    water = Volume(BALL[None].float(), GRID, Quantity.DENSITY, SOURCE.frame)
    return Planned(scan, ct, drawn, plan, calculate(plan, water, GRID, MACHINE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What a walk leaves behind."""
    out = tmp_path_factory.mktemp("report") / "plan"
    one, walk, request = planned(), Walk(out, quiet), Request(RX, seed=1)
    walk.case("scan", "", {}, lambda: one.scan)
    walk.case("synthetic_ct", "", {}, lambda: Case({"ct": one.ct}))
    walk.case("contours", "", {}, lambda: Case({}, one.structures))
    walk.step(
        "delivery", "", {}, lambda: one.plan, lambda plan, here: keep_plan(plan, request, here), read_plan
    )
    walk.case("dose", "", {}, lambda: Case({"dose": one.dose}))
    publish(walk, one, request, {"MRI": "a" * 64}, cautions=("Mind the <gap> & more.",))
    return out


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "plan"))


def run(*arguments: object):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def pages(path: Path) -> list[str]:
    return [page.extract_text() for page in PdfReader(path).pages]


def test_every_page_says_research_only_and_which_seal_it_is_of(folder):
    seal = json.loads((folder / "report.json").read_text())["seal"]
    found = pages(folder / "report.pdf")
    assert len(found) > 1
    for number, text in enumerate(found, start=1):
        assert "Research use only, not a medical device" in text
        assert f"seal {seal[:16]}" in text
        assert f"Page {number} of {len(found)}" in text
    html = (folder / "report.html").read_text()
    assert "Research use only" in html
    assert seal in html


def test_the_report_holds_the_hash_of_every_input_and_every_dicom_file(folder):
    text = "".join(pages(folder / "report.pdf")).replace("\n", "")
    html = (folder / "report.html").read_text()
    dicom = sorted((folder / "dicom").rglob("*.dcm"))
    assert len(dicom) > 3
    for sha in ["a" * 64, *(hashlib.sha256(p.read_bytes()).hexdigest() for p in dicom)]:
        assert sha in text
        assert sha in html


def test_the_report_says_what_is_delivered(folder):
    text = " ".join(" ".join(pages(folder / "report.pdf")).split())
    told = (
        "2 Gy, 1 × 2 Gy",
        "200.0",
        "1 segment",
        "-16 to 16",
        "-20 to 20",
        "generic-6mv",
        "100 mm deep in water",
    )
    assert [words for words in told if words not in text] == []
    # The skin lies 33 mm before the isocentre, to within a voxel.
    assert any(f"{mm}" in text for mm in range(963, 972))


def test_nothing_says_whose_plan_it_is(folder):
    reader = PdfReader(folder / "report.pdf")
    everything = "".join(pages(folder / "report.pdf")) + str(reader.metadata)
    everything += "".join((folder / f"report.{ending}").read_text() for ending in ("html", "json"))
    everything += " ".join(p.name for p in folder.rglob("*"))
    assert [who for who in WHO if who in everything] == []


def test_whose_plan_it_is_stands_in_the_report_where_asked_and_in_no_file_name(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "r.pdf", "--identity").exit_code == 0
    text = "".join(pages(tmp_path / "r.pdf"))
    assert "ID-8842" in text
    assert "QUILLFEATHER^ROWENA" in (tmp_path / "r.html").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"r.pdf", "r.html", "r.json", "r.json.sha256"}


def test_the_same_folder_gives_the_same_bytes(folder, tmp_path):
    result = run(folder, "--out", tmp_path / "report.pdf", "--json")
    assert result.exit_code == 0, result.stderr
    for name in ("report.pdf", "report.html", "report.json", "report.json.sha256"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads(result.stdout)["seal"] == json.loads((folder / "report.json").read_text())["seal"]


def flip(path: Path, at: int = -20) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "scan/mr.nii.gz",
        "dicom/RTPLAN.dcm",
        "dicom/CT/CT0003.dcm",
        "dose/dose.nii.gz",
        "plan.json",
        "report.pdf",
    ],
)
def test_a_flipped_byte_is_refused(copy, tmp_path, name):
    flip(copy / name)
    result = run(copy, "--out", tmp_path / "again.pdf")
    assert result.exit_code == 2
    assert f"{name} changed" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "again.pdf").exists()


def test_a_file_that_went_or_came_is_refused(copy, tmp_path):
    shutil.copy(copy / "dicom" / "RTDOSE.dcm", copy / "dicom" / "RTDOSE2.dcm")
    assert "beside the sealed ones, got dicom/RTDOSE2.dcm" in run(copy, "--out", tmp_path / "r.pdf").stderr
    (copy / "dicom" / "RTDOSE2.dcm").unlink()
    (copy / "dose" / "dose.nii.gz").unlink()
    assert "none at dose/dose.nii.gz" in run(copy, "--out", tmp_path / "r.pdf").stderr


def test_a_seal_that_was_made_to_fit_a_changed_file_breaks_the_chain(copy, tmp_path):
    flip(copy / "dicom" / "RTDOSE.dcm")
    told = json.loads((copy / "report.json").read_text())
    told["files"]["dicom/RTDOSE.dcm"] = hashlib.sha256(
        (copy / "dicom" / "RTDOSE.dcm").read_bytes()
    ).hexdigest()
    (copy / "report.json").write_text(json.dumps(told))
    sha = hashlib.sha256((copy / "report.json").read_bytes()).hexdigest()
    (copy / "report.json.sha256").write_text(f"{sha}  report.json\n")
    result = run(copy, "--out", tmp_path / "r.pdf")
    assert result.exit_code == 2
    assert "got it changed" in result.stderr


def test_the_chain_is_sha256_over_the_link_before():
    first = hashlib.sha256(b"spindose report").hexdigest()
    second = hashlib.sha256(f"{first} MRI abc\n".encode()).hexdigest()
    assert chain({"MRI": "abc"}) == second
    assert chain({"a": "1", "b": "2"}) == chain({"b": "2"}, chain({"a": "1"}))
    assert chain({"a": "1", "b": "2"}) != chain({"b": "2", "a": "1"})


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("plan/plan.pdf", "name of a file of the plan"),
        ("plan/review.pdf", "name of a file"),
        ("r.docx", ".pdf or .html"),
    ],
)
def test_a_report_never_takes_the_place_of_a_file_of_the_plan(copy, tmp_path, out, sentence):
    before = (copy / "plan.json").read_bytes()
    result = run(copy, "--out", tmp_path / out)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert (copy / "plan.json").read_bytes() == before


def test_a_folder_without_a_seal_is_refused(tmp_path):
    result = run(tmp_path, "--out", tmp_path / "r.pdf")
    assert result.exit_code == 2
    assert "sealed report.json" in result.stderr


def keys(folder: Path) -> tuple[Path, Path]:
    private = Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "public.pem").write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return folder / "key.pem", folder / "public.pem"


def test_a_signature_is_ed25519_over_the_manifest_and_holds_for_its_key_alone(copy, tmp_path):
    key, public = keys(tmp_path)
    assert "got none" in run(copy, "--out", tmp_path / "r.pdf", "--trusted", public).stderr
    assert run(copy, "--out", copy / "report.pdf", "--key", key).exit_code == 0
    signature = (copy / "report.json.sig").read_bytes()
    loaded = serialization.load_pem_public_key(public.read_bytes())
    loaded.verify(signature, (copy / "report.json").read_bytes())
    expect_signed(copy / "report.json", public)
    other = tmp_path / "other"
    other.mkdir()
    refused = run(copy, "--out", tmp_path / "r.pdf", "--trusted", keys(other)[1])
    assert refused.exit_code == 2
    assert "do not use this report" in refused.stderr
    with pytest.raises(ValueError, match="public Ed25519 key"):
        expect_signed(copy / "report.json", key)
    with pytest.raises(ValueError, match="private Ed25519 key"):
        sign(copy / "report.json", public)


def test_signing_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    key, _ = keys(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(ValueError, match=r"install spindose\[signing\]"):
        sign(tmp_path / "report.json", key)


def test_the_command_shows_an_example():
    assert "spindose report demo" in run("--help").output


def test_a_new_seal_takes_the_old_signature_away(tmp_path):
    (tmp_path / "report.json.sig").write_bytes(b"of an older seal")
    write_seal(tmp_path / "report.json", {}, {}, {})
    assert not (tmp_path / "report.json.sig").exists()


def test_the_page_asks_for_nothing_and_escapes_what_it_prints(folder):
    html = (folder / "report.html").read_text()
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "http://" not in html
    assert "https://" not in html
    assert "Mind the &lt;gap&gt; &amp; more." in html
    assert "Mind the <gap> & more." in " ".join(" ".join(pages(folder / "report.pdf")).split())


def test_signs_of_other_alphabets_and_markup_are_printed_as_they_are(tmp_path):
    table = Table(("α/β <i>", "B"), (("≥ 5 % & <b>", Verdict(None)), ("×", Code("ab<cd"))), (1.0, 1.0))
    report = Report("A & B", {"C": "<d>"}, (), (Section("E<", ("f & g",), (), (table,)),), "0", "s" * 64)
    write_pdf(tmp_path / "r.pdf", report)
    write_html(tmp_path / "r.html", report)
    text = "".join(pages(tmp_path / "r.pdf"))
    for words in ("A & B", "<d>", "f & g", "≥ 5 % & <b>", "ab<cd", "Not evaluated", "α/β <i>"):
        assert words in text
    assert "≥ 5 % &amp; &lt;b&gt;" in (tmp_path / "r.html").read_text()


def test_a_long_table_goes_on_over_pages_under_its_headings(tmp_path):
    table = Table(("File", "SHA-256"), tuple((f"file {n}", Code("f" * 64)) for n in range(200)), (1.0, 2.0))
    write_pdf(tmp_path / "r.pdf", Report("R", {}, (), (Section("S", (), (), (table,)),), "0", "s" * 64))
    found = pages(tmp_path / "r.pdf")
    assert len(found) > 2
    assert all("SHA-256" in text for text in found)


def test_a_goal_that_was_not_evaluated_is_told_with_its_reason():
    judged = {
        "structure": "PTV",
        "goal": "D95% >= 95 %",
        "limit": 57.0,
        "unit": "Gy",
        "source": "s",
        "verified": True,
    }
    told = goals_tables(
        [
            {**judged, "value": 56.0, "met": False, "reason": ""},
            {**judged, "structure": "Lens_L", "value": None, "met": None, "reason": "no structure Lens_L"},
        ]
    )
    assert told[0].heading == "0 of 1 evaluated goals met"
    assert told[0].rows[0][4] == Verdict(met=False)
    assert told[1].rows == (("Lens_L", "D95% >= 95 %", "no structure Lens_L"),)


def test_an_arc_is_told_by_its_ends_and_a_sliding_window_by_its_leaves():
    beam = planned().plan.beams[0]
    start, end = beam.control_points
    arc = replace(
        beam, gantry=350.0, control_points=(replace(start, gantry=350.0), replace(end, gantry=20.0))
    )
    slid = replace(beam, control_points=(start, replace(end, leaves=end.leaves + 5.0)))
    (arced, window) = beams_table((arc, slid), {}).rows
    assert arced[1] == "350° to 20°"
    assert arced[5] == "arc of 30°, 2 control points"
    assert window[5] == "sliding window, 2 control points"
    assert window[8] == "not known"
