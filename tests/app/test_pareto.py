"""The front's page: it opens offline, walks from one end to the other, and trusts no name."""

import base64
import hashlib
import html
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from app.cli import app as cli
from app.pareto import ParetoPage, walk_pareto, write_page
from app.review.facts import Provenance
from imaging.case import Case
from imaging.folder import write_case
from imaging.grid import axial
from imaging.phantoms import ellipsoid, sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume
from planning.arrange import arrange
from planning.goals import parse_goal
from planning.optimise.from_goals import Sample
from planning.optimise.pareto import Front, read_front
from planning.optimise.trade_off import TradeOff
from planning.plan import Plan, Prescription
from planning.plan_file import write_plan

HOSTILE = '</script><img src=x onerror="alert(1)">'
RX = Prescription(60.0, 30)
EDGE = np.array([60.0, 60.0, 40.0])
GRID = axial(-EDGE, EDGE, (4.0, 4.0, 4.0))
DRAWN = StructureSet(
    GRID,
    {
        "Body": Structure(ellipsoid(GRID, np.zeros(3), EDGE - 4), RoiType.EXTERNAL, (0, 255, 0)),
        "PTV": Structure(sphere(GRID, np.array([12.0, 0, 0]), 14.0), RoiType.PTV, (255, 0, 0), 60.0),
        "Brainstem": Structure(sphere(GRID, np.array([-8.0, 0, 0]), 10.0), RoiType.ORGAN, (0, 0, 255)),
        HOSTILE: Structure(sphere(GRID, np.array([0.0, 30, 0]), 8.0), RoiType.ORGAN, (0, 0, 255)),
    },
)


def page() -> ParetoPage:
    """A front of three nodes whose doses are ramps."""
    names = ("PTV", "Brainstem", HOSTILE)
    regions = {name: torch.arange(100) + 100 * n for n, name in enumerate(names)}
    drawn = Sample(np.zeros((300, 3)), regions, dict.fromkeys(names, 10.0))
    ramp = torch.linspace(-1, 1, 100)
    doses = torch.stack(
        [torch.cat([t + ramp, o + 5 * ramp, 20 + ramp]) for t, o in ((62, 40), (60, 25), (55, 20))]
    )
    goals = (parse_goal("PTV", "D98% >= 95%"), parse_goal("Brainstem", "D0.03cc <= 30 Gy"))
    front = Front(
        ("PTV D98%", "Brainstem D0.03cc"),
        np.array([0.0, 0.5, 1.0]),
        np.array([0.0, 0.4, 1.0]),
        torch.eye(3),
        np.array([[0.0, 9.0], [1.0, 4.0], [5.0, 3.0]]),
        0.01,
    )
    others = (*goals, parse_goal(HOSTILE, "Dmean <= 30 Gy"), parse_goal("Lens_L", "Dmax <= 10 Gy"))
    origin = Provenance("0.1", inputs={"plan": "a" * 64})
    return ParetoPage(TradeOff(goals, front, drawn, doses), DRAWN, RX, others, {"Beams": "9"}, origin)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "pareto.html"
    write_page(path, page())
    return path.read_text(encoding="utf-8")


def data_of(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))


def test_nodes_are_shown_as_they_are_and_mixtures_between_them(text):
    data = data_of(text)
    assert data["nodes"] == [0, 4, 8]
    # The hottest 0.03 of 10 cm³ of a ramp to 45, 30 and 25 Gy: within half a step of its 100 points.
    assert [data["steps"][n]["pair"][1] for n in data["nodes"]] == pytest.approx([45, 30, 25], abs=0.06)
    assert data["steps"][2]["pair"][1] == pytest.approx((45 + 30) / 2, abs=0.06)
    assert [step["place"] for step in data["steps"]] == sorted(step["place"] for step in data["steps"])


def test_goals_that_cannot_be_judged_are_told_apart_and_the_others_judged_at_each_place(text):
    data = data_of(text)
    assert [goal["structure"] for goal in data["goals"]] == ["PTV", "Brainstem", HOSTILE]
    assert data["open"] == [{"structure": "Lens_L", "goal": "Dmax <= 10 Gy", "reason": "no structure Lens_L"}]
    assert [step["goals"][1][1] for step in data["steps"]] == [False] * 4 + [True] * 5


def test_a_limit_is_told_in_the_unit_of_what_is_held_against_it(text):
    data = data_of(text)
    # 95 % of 60 Gy; 30 Gy need no second word.
    assert [goal["limit"] for goal in data["goals"]] == ["57.00 Gy", "", ""]
    assert [(p["better"], p["limit"], p["unit"]) for p in data["pair"]] == [
        ("more", 57.0, "Gy"),
        ("less", 30.0, "Gy"),
    ]


def test_histograms_fall_from_all_to_nothing(text):
    for step in data_of(text)["steps"]:
        for curve in step["curves"]:
            assert (curve[0], curve[-1]) == (100, 0)
            assert curve == sorted(curve, reverse=True)


def test_the_same_content_gives_the_same_bytes(text, tmp_path):
    write_page(tmp_path / "again.html", page())
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_only_the_page_s_own_scripts_run_and_a_hostile_name_stays_text(text):
    policy = html.unescape(re.search(r'Security-Policy" content="(.*?)">', text).group(1))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules  # so that default-src forbids every request
    bodies = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in bodies]
    assert rules["script-src"].split() == [f"'sha256-{d}'" for d in digests]
    assert HOSTILE not in text
    assert HOSTILE in [s["name"] for s in data_of(text)["structures"]]


def test_the_page_warns_and_names_its_origin(text):
    for words in ("Research use only — not a medical device", "a" * 64, "before it is cut into segments"):
        assert words in text


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an earlier run would have kept of a phantom."""
    folder = tmp_path_factory.mktemp("planned")
    ct = Volume(torch.where(DRAWN.mask("Body"), 0.0, -1000.0)[None], GRID, Quantity.HU)
    dose = Volume(torch.zeros(1, *GRID.shape), GRID, Quantity.DOSE)
    for name, case in {
        "synthetic_ct": Case({"ct": ct}),
        "contours": Case({}, DRAWN),
        "dose": Case({"dose": dose}),
    }.items():
        (folder / name).mkdir()
        write_case(case, folder / name)
    (folder / "delivery").mkdir()
    write_plan(Plan(arrange(DRAWN, 3), RX, "generic-6mv"), folder / "delivery" / "plan.json")
    return folder


def test_a_planned_patient_gets_a_front_and_its_page(planned, tmp_path):
    out = tmp_path / "front"
    told = walk_pareto(planned, ("PTV D98%", "Brainstem D0.03cc"), out, 4, lambda *_: None)
    assert sorted(path.name for path in out.iterdir()) == ["front.json", "front.npz", "pareto.html"]
    covered, spared = told["values"]["PTV D98%"], told["values"]["Brainstem D0.03cc"]
    # What spares the brainstem beside the target costs coverage.
    assert covered[0] > covered[-1] + 0.5
    assert spared[0] > spared[-1] + 2
    assert read_front(out).fluences.shape[0] == len(covered)


def test_a_goal_in_somebody_s_own_words_is_judged_beside_the_sheet_s(planned, tmp_path):
    out = tmp_path / "front"
    walk_pareto(planned, ("ptv D98%", "Brainstem Dmean <= 5 Gy"), out, 2, lambda *_: None)
    data = data_of((out / "pareto.html").read_text(encoding="utf-8"))
    told = [(goal["structure"], goal["goal"]) for goal in data["goals"]]
    assert told.count(("Brainstem", "Dmean <= 5 Gy")) == 1
    assert told.count(("PTV", "D98% >= 95 %")) == 1


@pytest.mark.parametrize(
    ("between", "sentence"),
    [
        (("PTV D98%", "Chiasm Dmax"), "expected a structure and a number"),
        (("PTV D98%", "Brainstem D7%"), "which way is better"),
        (("PTV", "Brainstem D0.03cc"), "expected a structure and a number"),
    ],
)
def test_what_cannot_be_traded_is_refused_and_nothing_is_left(planned, tmp_path, between, sentence):
    with pytest.raises(ValueError, match=sentence):
        walk_pareto(planned, between, tmp_path / "front", 3, lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_the_command_shows_an_example_and_refuses_in_one_sentence(planned, tmp_path):
    help_text = CliRunner().invoke(cli, ["pareto", "--help"])
    assert help_text.exit_code == 0
    assert "spindose pareto" in help_text.output
    wrong = ["pareto", str(planned), "--between", "PTV D98%", "Lens Dmax", "--out", str(tmp_path / "front")]
    refused = CliRunner().invoke(cli, wrong)
    assert refused.exit_code == 2
    assert len([line for line in refused.stderr.splitlines() if line.startswith("spindose: ")]) == 1


def test_too_little_memory_is_one_sentence_with_the_remedy_and_leaves_nothing(planned, tmp_path, monkeypatch):
    monkeypatch.setattr("planning.dose.memory.free_bytes", lambda _device: 2**20)
    out = str(tmp_path / "front")
    asked = ["pareto", str(planned), "--between", "PTV D98%", "Brainstem D0.03cc", "--out", out]
    refused = CliRunner().invoke(cli, asked)
    assert refused.exit_code == 2
    (told,) = [line for line in refused.stderr.splitlines() if line.startswith("spindose: ")]
    assert "free memory" in told
    assert "use fewer points" in told
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_plan_is_refused(tmp_path):
    with pytest.raises(ValueError, match="finished 'spindose plan'"):
        walk_pareto(tmp_path, ("PTV D98%", "Brainstem D0.03cc"), tmp_path / "front", 3, lambda *_: None)


DRIVE = """
(async () => {
  const seen = {};
  const slider = document.getElementById("place");
  const now = () => document.getElementById("now").textContent;
  const verdicts = () => [...document.querySelectorAll("#goals .verdict")].map((v) => v.textContent);
  seen.start = now();
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  seen.first = [now(), verdicts()];
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  seen.last = [now(), verdicts()];
  seen.axes = [...document.querySelectorAll("#front .g-xtitle, #front .g-ytitle")].map((t) => t.textContent);
  seen.open = document.getElementById("open").innerText;
  seen.names = [...document.querySelectorAll("#dvh .legendtext")].map((t) => t.textContent);
  seen.images = document.images.length;
  const report = document.createElement("pre");
  document.body.append(Object.assign(report, {id: "report", textContent: JSON.stringify(seen)}));
})();
"""


@pytest.mark.tools
@pytest.mark.slow
def test_the_slider_walks_the_front_with_a_silent_console(text, tmp_path, tool):
    digest = base64.b64encode(hashlib.sha256(DRIVE.encode()).digest()).decode()
    driven = text.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ", 1)
    path = tmp_path / "driven.html"
    path.write_text(f"<script>{DRIVE}</script></body>".join(driven.rsplit("</body>", 1)), encoding="utf-8")
    done = subprocess.run(
        [
            tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-quic", "--disable-background-networking", "--virtual-time-budget=8000",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, errors="replace", timeout=120, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    found = re.search(r'<pre id="report">(.*?)</pre>', done.stdout, re.DOTALL).group(1)
    seen = json.loads(html.unescape(found))
    assert "computed fluence 2 of 3" in seen["start"]
    assert seen["first"][1] == ["✔ Met", "✖ Not met", "✔ Met"]
    assert "Brainstem D0.03cc 45" in seen["first"][0]
    assert seen["last"][1] == ["✖ Not met", "✔ Met", "✔ Met"]
    assert "Goals met 2 of 3" in seen["first"][0]
    assert seen["axes"] == ["PTV D98% (Gy), more is better", "Brainstem D0.03cc (Gy), less is better"]
    assert "Goals that could not be evaluated: 1" in seen["open"]
    assert seen["names"][:2] == ["PTV", "Brainstem"]
    assert seen["images"] == 0
