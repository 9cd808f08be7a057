"""A plan drawn beam by beam: the picture's areas, and a page that opens offline and walks along the beam."""

import base64
import dataclasses
import hashlib
import html
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner

from app.cli import app
from app.plan_view import plan_view, window
from app.plan_view_page import view_plan, write_page
from app.plan_view_strip import panels, strip
from imaging.source import Source
from planning.beams import Beam, ControlPoint
from planning.machine import Machine, load_machine
from planning.plan import Plan, Prescription
from planning.rtplan import write_rtplan

MACHINE = load_machine("millennium-6mv")
SOURCE = Source(patient_id="ID-4711", patient_name="Secret^Name", study_uid="1.2.3", frame="1.2.4")
HOSTILE = '</script><img src=x onerror="alert(1)">'
OPEN = np.array([0xFF, 0xF3, 0xC4]) / 255


def square(machine: Machine, half: float, share: float, gantry: float) -> ControlPoint:
    """Leaves open by ``half`` either side of the axis, behind jaws that are 10 mm further out."""
    banks = []
    for edges in machine.mlc.layers:
        inside = np.abs(edges[:-1] + edges[1:]) / 2 < half
        banks.append(np.stack([np.where(inside, -half, 0.0), np.where(inside, half, 0.0)]))
    beyond = (-machine.max_jaw, machine.max_jaw)
    window = (-half - 10, half + 10)
    return ControlPoint(
        share,
        gantry,
        window if "x" in machine.jaws else beyond,
        window if "y" in machine.jaws else beyond,
        np.concatenate(banks, axis=1),
    )


def write(folder: Path, beams: list[Beam], machine: Machine = MACHINE) -> Path:
    plan = Plan(tuple(beams), Prescription(50.0, 25), machine.name)
    write_rtplan(plan, machine, SOURCE, folder / "RP.dcm", structure_set_uid="1.2.5")
    return folder / "RP.dcm"


def field(machine: Machine = MACHINE, name: str = "field") -> Beam:
    """Two segments: 20 and 40 mm squares, with 30 % and 70 % of 200 MU."""
    ends = [(10.0, 0.0), (10.0, 0.3), (20.0, 0.3), (20.0, 1.0)]
    points = tuple(square(machine, half, share, 30.0) for half, share in ends)
    return Beam(30.0, 0.0, 0.0, np.zeros(3), name, 200.0, points)


def turning(name: str = "arc", n: int = 25) -> Beam:
    points = tuple(
        square(MACHINE, 20.0, float(s), float(g % 360))
        for s, g in zip(np.linspace(0, 1, n) ** 2, np.linspace(300, 300 + 4 * (n - 1), n), strict=True)
    )
    return Beam(300.0, 0.0, 0.0, np.zeros(3), name, 100.0, points)


@pytest.fixture
def rtplan(tmp_path: Path) -> Path:
    return write(tmp_path, [field(), turning(HOSTILE)])


def test_the_picture_holds_all_that_opens_and_a_margin(rtplan):
    view = plan_view(rtplan)
    assert window(view.beams[0]) == (0.0, 0.0, 32.0)


def test_standing_fields_are_shown_by_segment_and_arcs_by_eight_points(rtplan):
    field, arc = plan_view(rtplan).beams
    assert [(p.point, p.start, p.stop) for p in panels(field, 0)] == [(0, 0.0, 0.3), (2, 0.3, 1.0)]
    shown = panels(arc, 1)
    assert len(shown) == 8
    assert (shown[0].point, shown[-1].point) == (0, 24)
    assert sum(panel.stop - panel.start for panel in shown) == pytest.approx(1)


def test_the_way_that_an_arc_turns_is_told_in_words(tmp_path):
    forth = turning()
    back = dataclasses.replace(
        forth,
        name="back",
        gantry=36.0,
        control_points=tuple(
            dataclasses.replace(point, gantry=float((36 - 4 * n) % 360))
            for n, point in enumerate(forth.control_points)
        ),
    )
    standing, clockwise, counter = plan_view(write(tmp_path, [field(), forth, back])).beams
    assert standing.facts()["Gantry"] == "30°"
    assert clockwise.facts()["Gantry"] == "300° to 36°, clockwise"
    assert counter.facts()["Gantry"] == "36° to 300°, counter-clockwise"


@pytest.mark.parametrize(
    ("name", "high"),
    [("millennium-6mv", (20.0, 40.0)), ("stacked-6mv", (10.0, 30.0))],
    ids=["one", "two layers"],
)
def test_open_pixels_are_the_open_area(tmp_path, name, high):
    """Squares of 20 and 40 mm in windows of 64 mm; two layers of 10 mm leaves open what both open."""
    machine = load_machine(name)
    picture = imread(io.BytesIO(strip(plan_view(write(tmp_path, [field(machine)], machine)))))[..., :3]
    middle = picture.shape[1] // 2
    per_mm = (1.75 - 0.12) * 130 / 64
    hidden = 400  # pixels under the axis' mark and the gantry's dial
    for panel, width, tall in ((picture[:, :middle], 20.0, high[0]), (picture[:, middle:], 40.0, high[1])):
        opened = (np.abs(panel - OPEN).max(axis=-1) < 0.02).sum()
        assert (width * per_mm - 2) * (tall * per_mm - 2) - hidden < opened <= width * tall * per_mm**2


class Elements(HTMLParser):
    """Elements of a page in order, each with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def page(rtplan, tmp_path) -> str:
    view_plan(rtplan, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_nothing_in_the_page_points_outside_it_and_only_its_own_script_runs(page):
    elements = Elements(page)
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    (body,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"


def test_the_page_names_beams_as_text_and_no_patient(page):
    assert html.escape(HOSTILE) in page
    assert HOSTILE not in page
    assert sum(tag == "img" for tag, _ in Elements(page).found) == 1  # the strip
    assert not any(secret in page for secret in ("Secret", "4711", "1.2.4"))


def test_the_same_plan_gives_the_same_page(rtplan, page, tmp_path):
    write_page(tmp_path / "again.html", plan_view(rtplan))
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_the_page_draws_what_the_plan_holds(rtplan, page):
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))
    for drawn, shown in zip(data, plan_view(rtplan).beams, strict=True):
        leaves = np.array([point.leaves for point in shown.beam.control_points])
        np.testing.assert_allclose(drawn["layers"][0]["leaves"], leaves, atol=0.005)
        np.testing.assert_allclose(drawn["layers"][0]["edges"], MACHINE.mlc.boundaries)
        np.testing.assert_allclose(drawn["shares"], shown.shares, atol=1e-6)
        np.testing.assert_allclose(drawn["gantry"], shown.gantry, atol=0.005)


def test_an_ending_that_is_neither_page_nor_picture_is_refused(rtplan, tmp_path):
    result = CliRunner().invoke(app, ["view", str(rtplan), "--out", str(tmp_path / "plan.pdf")])
    assert result.exit_code == 2
    assert "expected a .html or .png file to draw to, got .pdf" in result.stderr


DRIVE = """
(async () => {
  const seen = {};
  const section = document.querySelectorAll(".beam")[1];
  const slider = section.querySelector("input"), state = section.querySelector(".state");
  const canvas = section.querySelector(".aperture");
  seen.start = state.textContent;
  const drawn = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const at = (x, y) => {
    const first = 4 * (Math.round(y * canvas.height) * canvas.width + Math.round(x * canvas.width));
    return Array.from(drawn.slice(first, first + 3));
  };
  seen.middle = at(0.45, 0.45);
  seen.edge = at(0.03, 0.45);
  slider.value = "12"; slider.dispatchEvent(new Event("input"));
  seen.moved = state.textContent;
  slider.value = "22"; slider.dispatchEvent(new Event("input"));
  const button = section.querySelector(".play");
  button.click();
  seen.playing = button.textContent;
  await new Promise((resolve) => setTimeout(resolve, 1500));
  seen.stopped = button.textContent;
  seen.end = state.textContent;
  const report = document.createElement("pre");
  report.id = "report"; report.textContent = JSON.stringify(seen);
  document.body.append(report);
})();
"""


@pytest.mark.tools
@pytest.mark.slow
def test_slider_and_play_walk_along_the_beam_in_a_browser(page, tmp_path, tool):
    digest = base64.b64encode(hashlib.sha256(DRIVE.encode()).digest()).decode()
    driven = page.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ", 1)
    driven = f"<script>{DRIVE}</script></body>".join(driven.rsplit("</body>", 1))
    (tmp_path / "driven.html").write_text(driven, encoding="utf-8")
    done = subprocess.run(
        [
            tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--virtual-time-budget=8000", "--enable-logging=stderr",
            "--window-size=1280,900", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}",
            (tmp_path / "driven.html").as_uri(),
        ],
        capture_output=True, text=True, errors="replace", timeout=120, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    report = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, re.DOTALL).group(1)
    seen = json.loads(html.unescape(report))
    assert seen["start"].startswith("Control point 0 of 24Gantry 300.0°Delivered 0.0 MU (0.0 %)")
    assert seen["middle"] == [0xFF, 0xF3, 0xC4]
    assert seen["edge"] != seen["middle"]
    # The square of the share: (12/24)² of 100 MU, after 48 degrees.
    assert seen["moved"].startswith("Control point 12 of 24Gantry 348.0°Delivered 25.0 MU (25.0 %)")
    assert (seen["playing"], seen["stopped"]) == ("Stop", "Play")
    assert seen["end"].startswith("Control point 24 of 24Gantry 36.0°Delivered 100.0 MU")


@pytest.mark.data
@pytest.mark.parametrize("name", ["pymedphys_vmat_example", "dicompyler_rtplan", "pymedphys_06MV_plan"])
def test_plans_of_other_systems_are_drawn_without_a_machine(data, tmp_path, name):
    for ending in ("png", "html"):
        drawn = view_plan(data / "dicom_rt" / f"{name}.dcm", tmp_path / f"plan.{ending}")
        assert (tmp_path / f"plan.{ending}").stat().st_size > 10_000
        assert len(drawn["mu"]) in {2, 4, 10}


@pytest.mark.data
def test_one_of_several_fraction_groups_is_drawn(data, tmp_path):
    path = data / "dicom_rt" / "dvha_mlca_rtplan.dcm"
    with pytest.raises(ValueError, match="number of one of"):
        view_plan(path, tmp_path / "plan.png")
    assert len(view_plan(path, tmp_path / "plan.png", 3)["mu"]) == 8


def test_a_field_of_jaws_alone_is_drawn(tmp_path):
    import pydicom

    path = write(tmp_path, [field()])
    dataset = pydicom.dcmread(path)
    beam = dataset.BeamSequence[0]
    del beam.BeamLimitingDeviceSequence[2]
    for point in beam.ControlPointSequence:
        if "BeamLimitingDevicePositionSequence" in point:
            places = point.BeamLimitingDevicePositionSequence
            point.BeamLimitingDevicePositionSequence = [
                p for p in places if "MLC" not in p.RTBeamLimitingDeviceType
            ]
    dataset.save_as(path)
    shown = plan_view(path).beams[0]
    assert shown.edges == ()
    assert window(shown) == (0.0, 0.0, 42.0)
    assert strip(dataclasses.replace(plan_view(path))).startswith(b"\x89PNG")
