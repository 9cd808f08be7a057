"""The review page: it opens offline, shows what it was given, and trusts no name."""

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread

from app.review.facts import CheckRow, Curve, GoalRow, Provenance, ReviewPage
from app.review.page import write_page
from imaging.grid import axial, positions
from imaging.phantoms import ellipsoid, sphere
from imaging.structures import RoiType, Structure, StructureSet
from imaging.volume import Quantity, Volume

HOSTILE = '</script><img src=x onerror="alert(1)">'
FRAME = "2.25.1234567890"


def review(spacing: float = 4.0) -> ReviewPage:
    grid = axial(np.array([-80.0, -100, -100]), np.array([80.0, 100, 100]), (spacing,) * 3)
    body = ellipsoid(grid, np.zeros(3), np.array([70.0, 90, 92]))
    target = sphere(grid, np.array([30.0, -30, 20]), 20.0)
    ct = torch.where(body, 40.0, -1000.0)
    ct[sphere(grid, np.zeros(3), 30.0)] = 1200.0
    distance = torch.arange(grid.shape[0]) * spacing - 80
    dose = 60 * torch.exp(-(((distance - 30) / 60) ** 2))[:, None, None] * body
    structures = {
        "BODY": Structure(body, RoiType.EXTERNAL, (0, 255, 0)),
        "PTV": Structure(target, RoiType.PTV, (255, 0, 0), 60.0),
        HOSTILE: Structure(sphere(grid, np.array([-30.0, 0, 0]), 15.0), RoiType.ORGAN, (0, 0, 255)),
    }
    axis = np.linspace(0, 66, 100)
    curve = Curve("PTV", axis, 100 * (axis < 57).astype(np.float64))
    return ReviewPage(
        title="A phantom",
        scans={
            "Synthetic CT": Volume(ct[None], grid, Quantity.HU, FRAME),
            "T1": Volume(100 * body[None].float() + 7, grid, Quantity.MR, FRAME),
        },
        doses={"Planned": Volume(dose[None].float(), grid, Quantity.DOSE, FRAME)},
        structures=StructureSet(grid, structures, FRAME),
        prescription_gy=60.0,
        provenance=Provenance("0.1", 7, {"T1": "a" * 64}, {"Technique": "imrt"}),
        curves={"synthetic CT": (curve,), "true CT": (curve,)},
        goals=(
            GoalRow("PTV", "D95% ≥ 57 Gy", "58.2 Gy", True, "ICRU 83"),
            GoalRow(HOSTILE, "D0.03cc ≤ 54 Gy", "56.1 Gy", False),
            GoalRow("Lens", "D0.03cc ≤ 10 Gy", "", None),
        ),
        checks=(CheckRow("Gamma 2 %/2 mm", "99.1 %", "> 98 %", True),),
    )


def written(folder: Path, page: ReviewPage | None = None) -> str:
    path = folder / "review.html"
    write_page(path, page or review())
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("page"))


class Elements(HTMLParser):
    """Elements of a page in order, each with its attributes, and the text outside its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.found or self.found[-1][0] != "script":
            self.text += data


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL).group(1))


def test_the_same_content_gives_the_same_bytes(tmp_path, text):
    assert written(tmp_path) == text


def test_nothing_in_the_page_points_outside_it(text):
    for _, attributes in Elements(text).found:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_lets_only_the_page_s_own_scripts_run(text):
    elements = Elements(text)
    policy = next(a["content"] for t, a in elements.found if t == "meta" and "http-equiv" in a)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules  # so that default-src forbids every request
    allowed = rules["script-src"].split()
    bodies = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in bodies]
    assert allowed == [f"'sha256-{d}'" for d in digests]


def test_a_hostile_name_stays_text(text):
    elements = Elements(text)
    assert sum(tag == "img" for tag, _ in elements.found) == 1  # the still picture
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert HOSTILE in elements.text
    assert HOSTILE in [s["name"] for s in data_of(text)["structures"]]


def test_goals_say_in_words_whether_they_are_met(text):
    table = html.unescape(re.search(r'<table id="goals">.*?</table>', text, re.DOTALL).group(0))
    for words in ("✔</span> Met", "✖</span> Not met", "ICRU 83", "58.2 Gy"):
        assert words in table
    assert "1 of 2 evaluated goals met" in text
    assert "1 not evaluated" in text


def test_the_page_warns_and_names_its_origin(text):
    shown = Elements(text).text
    for words in ("Research use only — not a medical device", "a" * 64, "Seed", "imrt"):
        assert words in shown


def test_no_frame_of_reference_is_on_the_page(text):
    assert FRAME not in text


def test_scan_and_dose_on_the_page_lie_where_they_were(tmp_path):
    page = review(5.0)
    data = data_of(written(tmp_path, page))
    for entry, volume, tolerance in [
        (data["scans"][0], page.scans["Synthetic CT"], 0.5),
        (data["doses"][0], page.doses["Planned"], 0.005 + 1e-5),
    ]:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(entry["nifti"])))
        codes = np.asanyarray(image.dataobj)
        corner = image.affine @ np.array([3, 4, 5, 1])
        lps = corner[:3] * [-1, -1, 1]  # NIfTI counts x to the right and y to the front
        np.testing.assert_allclose(lps, np.array(data["origin"]) + np.array(data["spacing"]) * [3, 4, 5])
        first = np.linalg.solve(volume.grid.affine, [*data["origin"], 1])[:3].round().astype(int)
        window = tuple(slice(f, f + n) for f, n in zip(first, codes.shape, strict=True))
        np.testing.assert_allclose(codes * entry["step"], volume.data[0][window].numpy(), atol=tolerance)


def test_masks_on_the_page_are_the_structures_voxels(tmp_path):
    page = review(5.0)
    data = data_of(written(tmp_path, page))
    words = np.frombuffer(gzip.decompress(base64.b64decode(data["masks"][0])), np.uint8)
    bits = words.reshape(data["shape"], order="F")
    for n, structure in enumerate(page.structures.structures.values()):
        index = structure.mask.nonzero().double().numpy()
        at = (positions(page.structures.grid, index) - data["origin"]) / data["spacing"]
        shown = np.argwhere(bits >> n & 1)
        assert {*map(tuple, shown)} == {*map(tuple, at.round().astype(int))}


def test_a_fine_scan_becomes_a_page_of_few_megabytes(tmp_path):
    page = review(4.0)
    grid = axial(np.array([-80.0, -100, -100]), np.array([80.0, 100, 100]), (1.4, 1.4, 1.4))
    generator = torch.Generator().manual_seed(1)
    noise = 40 + 20 * torch.randn((1, *grid.shape), generator=generator)
    body = Structure(ellipsoid(grid, np.zeros(3), np.array([70.0, 90, 92])), RoiType.EXTERNAL, (0, 0, 0))
    fine = dataclasses.replace(
        page,
        scans={"Noise": Volume(noise, grid, Quantity.HU)},
        structures=StructureSet(grid, {"BODY": body}),
    )
    assert len(written(tmp_path, fine)) < 12e6


def test_a_second_dose_is_shown_as_a_difference(tmp_path):
    page = review()
    dose = page.doses["Planned"]
    second = Volume(dose.data * 1.02, dose.grid, dose.quantity)
    shown = Elements(written(tmp_path, dataclasses.replace(page, doses={"A": dose, "B": second})))
    assert [a["alt"] for t, a in shown.found if t == "img"][1].startswith("B less A")


def test_a_scan_is_needed():
    with pytest.raises(ValueError, match="expected at least one scan and one dose"):
        dataclasses.replace(review(), scans={})


def test_a_dose_in_hu_is_refused(tmp_path):
    page = review()
    with pytest.raises(ValueError, match="expected a volume in Gy, got HU"):
        written(tmp_path, dataclasses.replace(page, doses={"Planned": page.scans["Synthetic CT"]}))


def test_the_programs_in_the_page_are_those_listed():
    folder = files("app.review").joinpath("vendor")
    table = folder.joinpath("README.md").read_text()
    listed = dict(re.findall(r"^\| `([\w.-]+\.js)` .*`(\w{64})` \|$", table, re.MULTILINE))
    assert listed
    for name, digest in listed.items():
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest


# ---- in a browser

FLAGS = [
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--window-size=1280,720", "--virtual-time-budget=12000",
    "--enable-logging=stderr",
]  # fmt: skip
DRIVE = """
(async () => {
  const seen = {violations: []};
  document.addEventListener("securitypolicyviolation", (e) => seen.violations.push(e.blockedURI));
  for (let n = 0; n < 200 && document.documentElement.dataset.ready !== "planes"; n++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  const where = () => document.getElementById("where").textContent;
  const stage = document.getElementById("stage");
  const box = stage.getBoundingClientRect();
  const over = {clientX: box.left + 40, clientY: box.top + 40, bubbles: true, cancelable: true};
  const key = (name) => stage.dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true}));
  seen.home = where();
  stage.dispatchEvent(new WheelEvent("wheel", {...over, deltaY: -100}));
  seen.wheel = where();
  key("3"); key("ArrowUp"); key("ArrowUp");
  seen.keys = where();
  key("Home");
  seen.back = where();
  const slide = document.getElementById("slide-j");
  slide.value = +slide.value + 3;
  slide.dispatchEvent(new Event("input"));
  seen.slider = where();
  seen.cloud = [...document.querySelectorAll(".modebar-btn")].map((b) => b.getAttribute("data-title"));
  seen.legend = [...document.querySelectorAll("#dvh .legendtext")].map((t) => t.textContent);
  try { await fetch("data:text/plain,x"); seen.fetched = true; } catch { seen.fetched = false; }
  await new Promise((resolve) => setTimeout(resolve, 100));
  const report = document.createElement("pre");
  document.body.append(Object.assign(report, {id: "report", textContent: JSON.stringify(seen)}));
})();
"""


def chromium(program: str, folder: Path, path: Path, *flags: str) -> tuple[str, list[str]]:
    """What a browser with an empty profile makes of a page: its output and the console's lines."""
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [program, *FLAGS, profile, *flags, path.as_uri()],
        capture_output=True, text=True, errors="replace", timeout=120, check=True, cwd=folder,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def driven(page: str) -> str:
    """The page with a script that uses it as a person would, let in by the policy."""
    digest = base64.b64encode(hashlib.sha256(DRIVE.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src &#x27;sha256-{digest}&#x27; ", 1)
    # NiiVue's own text holds a "</body>" too: the last one is the page's.
    return f"<script>{DRIVE}</script></body>".join(page.rsplit("</body>", 1))


def mm(where: str) -> list[float]:
    """Position that the page's status line states."""
    return [float(v) for v in re.match(r"x ([-\d.]+), y ([-\d.]+), z ([-\d.]+) mm", where).groups()]


@pytest.mark.tools
@pytest.mark.slow
def test_planes_scroll_by_wheel_key_and_slider_without_a_request(tmp_path, text, tool):
    path = tmp_path / "driven.html"
    path.write_text(driven(text), encoding="utf-8")
    dom, console = chromium(tool("chromium"), tmp_path, path, "--dump-dom")
    seen = json.loads(html.unescape(re.search(r'<pre id="report">(.*?)</pre>', dom, re.DOTALL).group(1)))
    np.testing.assert_allclose(mm(seen["home"]), [30, -30, 20], atol=2.01)  # the PTV, within half a voxel
    x, y, z = mm(seen["home"])
    assert mm(seen["wheel"]) == [x, y, z + 4]
    assert mm(seen["keys"]) == [x + 8, y, z + 4]
    assert mm(seen["back"]) == [x, y, z]
    assert mm(seen["slider"]) == [x, y + 12, z]
    assert "Synthetic CT 40 HU" in seen["home"]
    assert "in BODY, PTV" in seen["home"]
    assert not any("cloud" in title.lower() or "share" in title.lower() for title in seen["cloud"])
    assert seen["legend"] == ["PTV"]
    assert seen["fetched"] is False
    assert all(uri.startswith("data") for uri in seen["violations"])
    # The only word on the console is the refusal of the request that this test made itself.
    assert all("data:text/plain" in line for line in console), console


@pytest.mark.tools
@pytest.mark.slow
def test_a_page_draws_scan_dose_and_contours_with_a_silent_console(tmp_path, text, tool):
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    picture = tmp_path / "shot.png"
    _, console = chromium(tool("chromium"), tmp_path, path, f"--screenshot={picture}")
    assert console == []
    stage = imread(picture)[120:480, 40:960, :3]
    assert (stage.max(axis=-1) < 0.05).mean() > 0.1  # air
    gray = np.ptp(stage, axis=-1) < 0.02
    assert (gray & (stage[..., 0] > 0.3)).mean() > 0.05  # tissue
    assert (~gray).mean() > 0.1  # dose and lines


@pytest.mark.tools
@pytest.mark.slow
def test_without_webgl_the_still_picture_shows(tmp_path, text, tool):
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    dom, console = chromium(tool("chromium"), tmp_path, path, "--disable-3d-apis", "--dump-dom")
    assert console == []
    found = {a.get("id"): a for _, a in Elements(dom).found}
    assert "hidden" in found["viewer"]
    assert "class" not in found["still"]
