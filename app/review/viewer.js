// Three planes that scroll: NiiVue draws scan and dose, this file the lines over them and the controls.
"use strict";

async function showPlanes() {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $$ = (id) => document.getElementById(id);
  const names = Object.keys(PLANES);
  const hidden = new Set();
  let scheme = "safe";
  let active = "axial";
  let scan = 0;
  let dose = 0;
  let ends = [1 / 3, 2 / 3, 1]; // right ends of the tiles, as shares of the width

  if (!document.createElement("canvas").getContext("webgl2")) return;
  $$("viewer").hidden = false;
  $$("still").classList.add("printed");

  const nv = new niivue.Niivue({
    logLevel: "error", dragAndDropEnabled: false, isColorbar: false, show3Dcrosshair: false, crosshairWidth: 0,
    backColor: [0, 0, 0, 1], isRadiologicalConvention: true, sagittalNoseLeft: true, fontColor: [1, 1, 1, 1],
    dragMode: niivue.DRAG_MODE.none, showAllOrientationMarkers: true, loadingText: "",
  });
  // Keys, wheel and double click are this page's own: they must do the same over every plane.
  for (const own of ["keyDownListener", "keyUpListener", "wheelListener", "resetBriCon"]) nv[own] = () => {};
  await nv.attachToCanvas($$("scan"));

  const channel = (n) => data.ramp.map((c) => parseInt(c.slice(1 + 2 * n, 3 + 2 * n), 16));
  const steps = data.ramp.map((_, n) => Math.round((255 * n) / (data.ramp.length - 1)));
  nv.addColormap("dose", { R: channel(0), G: channel(1), B: channel(2), A: steps.map((n) => (n ? 255 : 0)), I: steps });
  const load = (entry, colormap) =>
    niivue.NVImage.loadFromBase64({ base64: entry.nifti, name: `${entry.name}.nii.gz`, colormap });
  const scans = await Promise.all(data.scans.map((entry) => load(entry, "gray")));
  const doses = await Promise.all(data.doses.map((entry) => load(entry, "dose")));
  const words = await Promise.all(data.masks.map(unpack));
  // NIfTI says where the voxels are; the page's grid is upright, so each axis has one step and one start.
  const affine = scans[0].hdr.affine;
  const start = [0, 1, 2].map((n) => affine[n][3]);
  const step = [0, 1, 2].map((n) => affine[n][n]);
  const toIndex = (mm) =>
    [0, 1, 2].map((n) => Math.max(0, Math.min(data.shape[n] - 1, Math.round((mm[n] - start[n]) / step[n]))));
  const offset = (at) => at[0] + data.shape[0] * (at[1] + data.shape[1] * at[2]);
  const inside = (s, n) => (words[s >> 3][n] >> (s & 7)) & 1;

  function here() {
    return toIndex(nv.frac2mm(nv.scene.crosshairPos));
  }

  function go(at) {
    const mm = at.map((n, axis) => start[axis] + step[axis] * Math.max(0, Math.min(data.shape[axis] - 1, n)));
    nv.scene.crosshairPos = nv.mm2frac(mm);
    nv.drawScene();
  }

  function scroll(plane, n) {
    const at = here();
    at[PLANES[plane].through] += n;
    go(at);
  }

  function refresh() {
    const entry = data.doses[dose];
    const [black, white] = $$("window").value.split(" ").map(Number);
    Object.assign(scans[scan], { cal_min: black / data.scans[scan].step, cal_max: white / data.scans[scan].step });
    Object.assign(doses[dose], {
      cal_min: Math.max(+$$("threshold").value, 0.01) / entry.step,
      cal_max: data.full / entry.step,
      colormapType: 2, // colours count from 0 Gy, whatever the threshold hides
      opacity: $$("wash").checked ? $$("opacity").value / 100 : 0,
    });
    nv.volumes = [scans[scan], doses[dose]];
    nv.back = scans[scan];
    nv.overlays = [doses[dose]];
    nv.updateGLVolume();
  }

  // ---- lines

  const context = $$("lines").getContext("2d");
  const cache = new Map();

  function cut(plane, index, key, make) {
    const at = `${plane} ${key}`;
    const kept = cache.get(at);
    if (kept && kept.index === index) return kept.found;
    const found = make();
    cache.set(at, { index, found });
    return found;
  }

  function drawLines() {
    const { width, height } = nv.gl.canvas;
    if ($$("lines").width !== width || $$("lines").height !== height) Object.assign($$("lines"), { width, height });
    context.clearRect(0, 0, width, height);
    if (!nv.volumes.length) return;
    const at = here();
    for (const tile of nv.screenSlices) {
      if (tile.axCorSag > 2) continue;
      drawTile(names[tile.axCorSag], tile, at);
    }
    report(at);
  }

  function drawTile(plane, tile, at) {
    const { across, along, through } = PLANES[plane];
    const [left, top, width, height] = tile.leftTopWidthHeight;
    const sx = width / tile.fovMM[0];
    const sy = -height / tile.fovMM[1];
    const place = {
      x0: left + (start[across] - tile.leftTopMM[0]) * sx, dx: step[across] * sx,
      y0: top + height + (start[along] - tile.leftTopMM[1]) * sy, dy: step[along] * sy,
    };
    const ratio = window.devicePixelRatio || 1;
    context.save();
    context.beginPath();
    context.rect(left, top, width, height);
    context.clip();
    context.lineCap = "round";
    const stroke = (found, color, thick) => {
      const line = path(found, place);
      context.strokeStyle = "rgb(0 0 0 / 35%)"; // a dark rim tells a line from bright bone
      context.lineWidth = (thick + 1) * ratio;
      context.stroke(line);
      context.strokeStyle = color;
      context.lineWidth = thick * ratio;
      context.stroke(line);
    };
    if ($$("isodoses").checked) {
      const gray = doses[dose].img;
      for (const { level, color } of data.isodoses) {
        const make = () => pieces(planeOf(gray, data.shape, plane, at[through], (v) => v * data.doses[dose].step), level);
        stroke(cut(plane, at[through], `dose ${dose} ${level}`, make), color, 0.8);
      }
    }
    if ($$("contours").checked) {
      data.structures.forEach((s, n) => {
        if (hidden.has(s.name)) return;
        const make = () => pieces(planeOf(words[n >> 3], data.shape, plane, at[through], (v) => (v >> (n & 7)) & 1), 0.5);
        stroke(cut(plane, at[through], `mask ${n}`, make), s[scheme], 1.7);
      });
    }
    const x = Math.round(place.x0 + place.dx * at[across]) + 0.5;
    const y = Math.round(place.y0 + place.dy * at[along]) + 0.5;
    context.strokeStyle = "rgb(255 255 255 / 60%)";
    context.lineWidth = ratio;
    context.setLineDash([4 * ratio, 4 * ratio]);
    context.beginPath();
    for (const [x0, y0, x1, y1] of [
      [left, y, x - 8, y], [x + 8, y, left + width, y], [x, top, x, y - 8], [x, y + 8, x, top + height],
    ]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
    context.restore();
  }

  function report(at) {
    const n = offset(at);
    const mm = at.map((v, axis) => (data.origin[axis] + data.spacing[axis] * v).toFixed(1));
    const shown = data.scans[scan];
    const value = scans[scan].img[n] * shown.step;
    const unit = shown.quantity === "HU" ? `${value.toFixed(0)} HU` : value.toFixed(0);
    const gy = doses[dose].img[n] * data.doses[dose].step;
    const within = data.structures.filter((_, s) => inside(s, n)).map((s) => s.name);
    $$("where").textContent =
      `x ${mm[0]}, y ${mm[1]}, z ${mm[2]} mm · ${shown.name} ${unit} · dose ${gy.toFixed(1)} Gy ` +
      `(${((100 * gy) / data.prescription).toFixed(0)} %)${within.length ? ` · in ${within.join(", ")}` : ""}`;
    ["i", "j", "k"].forEach((letter, axis) => {
      const slider = $$(`slide-${letter}`);
      slider.value = at[axis];
      slider.nextElementSibling.textContent = `${"xyz"[axis]} ${mm[axis]} mm`;
    });
    for (const [plane, { through }] of Object.entries(PLANES)) {
      $$(`slide-${"ijk"[through]}`).parentElement.classList.toggle("active", plane === active);
    }
  }

  const size = data.shape.map((n, axis) => n * data.spacing[axis]);
  const first = layout(size, 1, 1);
  $$("stage").style.aspectRatio = `${first.total * 1.02} / ${first.tallest}`;
  $$("sliders").style.gridTemplateColumns = first.wide.map((mm) => `minmax(0, ${mm}fr)`).join(" ");

  function arrange() {
    const { width, height } = $$("stage").getBoundingClientRect();
    const { positions, ends: right } = layout(size, width, height);
    ends = right;
    nv.setCustomLayout(positions.map((position, n) => ({ sliceType: n, position })));
  }

  // ---- controls

  const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
  const element = (tag, cls, text) => Object.assign(document.createElement(tag), { className: cls, textContent: text });

  function windows() {
    const auto = data.scans[scan].window.join(" ");
    const choices = data.scans[scan].quantity === "HU"
      ? [[auto, "Soft tissue"], ["0 80", "Brain"], ["-450 1050", "Bone"], ["-1024 2000", "Full"]]
      : [[auto, "Automatic"], [`0 ${data.scans[scan].window[1] * 0.6}`, "Brighter"]];
    $$("window").replaceChildren(...choices.map(([value, text]) => option(value, text)));
  }

  function swatches() {
    document.querySelectorAll("#structures .swatch").forEach((swatch, n) => {
      swatch.style.background = data.structures[n][scheme];
    });
  }

  $$("background").append(...data.scans.map((entry, n) => option(n, entry.name)));
  $$("dose").append(...data.doses.map((entry, n) => option(n, entry.name)));
  data.isodoses.forEach(({ level, percent, color }) => {
    const item = document.createElement("li");
    const swatch = element("span", "swatch", "");
    swatch.style.background = color;
    item.append(swatch, `${level.toFixed(1)} Gy`, element("small", "", `${percent} %`));
    $$("levels").append(item);
  });
  data.structures.forEach((s) => {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(s.name);
      else hidden.add(s.name);
      drawHistograms(scheme, hidden);
      nv.drawScene();
    });
    label.title = s.name;
    label.append(box, element("span", "swatch", ""), element("span", "name", s.name), element("small", "", s.kind.toLowerCase()));
    item.append(label);
    $$("structures").append(item);
  });
  swatches();
  windows();
  $$("threshold").max = data.prescription;
  $$("threshold").value = data.isodoses[0].level;

  const on = (id, event, act) => $$(id).addEventListener(event, act);
  const outputs = () => {
    $$("opacity").previousElementSibling.textContent = `${$$("opacity").value} %`;
    $$("threshold").previousElementSibling.textContent = `${(+$$("threshold").value).toFixed(1)} Gy`;
  };
  on("background", "change", () => { scan = +$$("background").value; windows(); refresh(); });
  on("dose", "change", () => { dose = +$$("dose").value; refresh(); });
  for (const id of ["window", "wash"]) on(id, "change", refresh);
  for (const id of ["opacity", "threshold"]) on(id, "input", () => { outputs(); refresh(); });
  for (const id of ["contours", "isodoses"]) on(id, "change", () => nv.drawScene());
  on("colors", "change", () => {
    scheme = $$("colors").value;
    swatches();
    drawHistograms(scheme, hidden);
    nv.drawScene();
  });
  ["i", "j", "k"].forEach((letter, axis) => {
    $$(`slide-${letter}`).max = data.shape[axis] - 1;
    on(`slide-${letter}`, "input", () => { const at = here(); at[axis] = +$$(`slide-${letter}`).value; go(at); });
  });

  let turned = 0;
  const under = (event) => {
    const box = $$("stage").getBoundingClientRect();
    const n = ends.findIndex((end) => (event.clientX - box.left) / box.width < end);
    return names[n < 0 ? 2 : n];
  };
  on("stage", "pointermove", (event) => { if (active !== under(event)) { active = under(event); drawLines(); } });
  $$("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    active = under(event);
    // A wheel's notch is one slice; a trackpad's many small turns add up to one.
    turned += event.deltaMode ? 40 * event.deltaY : event.deltaY;
    if (Math.abs(turned) < 40) return;
    scroll(active, -Math.sign(turned) * (event.shiftKey ? 5 : 1));
    turned = 0;
  }, { passive: false });
  on("stage", "keydown", (event) => {
    const n = { ArrowUp: 1, PageUp: 5, ArrowDown: -1, PageDown: -5 }[event.key];
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (n) scroll(active, event.shiftKey ? 5 * n : n);
    else if ("123".includes(event.key)) { active = names[event.key - 1]; drawLines(); }
    else if (event.key === "Home") home();
    else if ("cC".includes(event.key)) $$("contours").click();
    else if ("dD".includes(event.key)) $$("wash").click();
    else return;
    event.preventDefault();
  });

  const home = () => go(data.center.map((mm, axis) => Math.round((mm - data.origin[axis]) / data.spacing[axis])));
  const draw = nv.drawScene.bind(nv);
  nv.drawScene = () => { draw(); drawLines(); };
  new ResizeObserver(arrange).observe($$("stage"));
  arrange();
  outputs();
  refresh();
  home();
  document.documentElement.dataset.ready = "planes";
}

// Whatever a graphics driver refuses, the still picture takes the planes' place.
showPlanes().catch((error) => {
  document.getElementById("viewer").hidden = true;
  document.getElementById("still").classList.remove("printed");
  throw error;
});
