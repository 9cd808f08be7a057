// Each beam's aperture, gantry and monitor units at the control point that its slider stands at.
"use strict";

(function () {
  const beams = JSON.parse(document.getElementById("data").textContent);
  const color = {
    open: "#fff3c4", layers: ["#9fb0c3", "#c2a9cf"], jaw: "rgba(49, 72, 95, 0.55)", line: "#54657a",
    accent: "#1f5f8b", soft: "#8b98a7", rule: "#d8dee6", ink: "#1c2733",
  };
  const STEP_MS = 120;

  // A canvas that is sharp on every screen; its own units are CSS pixels.
  function fitted(canvas) {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return { pen, width: box.width, height: box.height };
  }

  function drawAperture(canvas, beam, n) {
    const { pen, width, height } = fitted(canvas);
    const [x, y, half] = beam.window;
    const scale = Math.min(width, height) / (2 * half);
    const px = (mm) => (mm - x) * scale + width / 2;
    const py = (mm) => height / 2 - (mm - y) * scale;
    pen.fillStyle = color.open;
    pen.fillRect(0, 0, width, height);
    pen.lineWidth = 0.5;
    beam.layers.forEach((layer, l) => {
      pen.globalAlpha = 0.85;
      pen.fillStyle = color.layers[l];
      pen.strokeStyle = color.line;
      layer.leaves[n].forEach((bank, side) => bank.forEach((tip, pair) => {
        const top = py(layer.edges[pair + 1]);
        const tall = py(layer.edges[pair]) - top;
        const from = side === 0 ? -1 : Math.max(px(tip), -1);
        const to = side === 0 ? Math.min(px(tip), width + 1) : width + 1;
        if (to > from) {
          pen.fillRect(from, top, to - from, tall);
          pen.strokeRect(from, top, to - from, tall);
        }
      }));
    });
    pen.globalAlpha = 1;
    pen.fillStyle = color.jaw;
    if (beam.jaws.x) {
      const [low, high] = beam.jaws.x[n].map(px);
      pen.fillRect(0, 0, Math.max(0, low), height);
      pen.fillRect(Math.min(width, high), 0, width, height);
    }
    if (beam.jaws.y) {
      const [low, high] = beam.jaws.y[n].map(py);
      pen.fillRect(0, Math.min(height, low), width, height);
      pen.fillRect(0, 0, width, Math.max(0, high));
    }
    drawAxes(pen, px, py, half, width, height);
    drawDial(pen, width - 38, 38, 28, beam.gantry[n]);
  }

  function drawAxes(pen, px, py, half, width, height) {
    pen.strokeStyle = color.accent;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.moveTo(px(0) - 7, py(0)); pen.lineTo(px(0) + 7, py(0));
    pen.moveTo(px(0), py(0) - 7); pen.lineTo(px(0), py(0) + 7);
    pen.stroke();
    // A rule of a round length.
    const length = [10, 20, 50, 100].find((mm) => mm >= half / 4) || 100;
    const long = Math.abs(px(length) - px(0));
    pen.fillStyle = "rgba(255, 255, 255, 0.85)";
    pen.fillRect(8, height - 30, long + 16, 24);
    pen.strokeStyle = color.ink;
    pen.beginPath();
    pen.moveTo(16, height - 12); pen.lineTo(16 + long, height - 12);
    pen.stroke();
    pen.fillStyle = color.ink;
    pen.font = "11px system-ui, sans-serif";
    pen.fillText(`${length} mm`, 16, height - 17);
  }

  function drawDial(pen, x, y, radius, degrees) {
    const angle = degrees * Math.PI / 180;
    pen.fillStyle = "rgba(255, 255, 255, 0.92)";
    pen.strokeStyle = color.line;
    pen.lineWidth = 1;
    pen.beginPath(); pen.arc(x, y, radius, 0, 2 * Math.PI); pen.fill(); pen.stroke();
    const at = [x + radius * Math.sin(angle), y - radius * Math.cos(angle)];
    pen.strokeStyle = color.accent;
    pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(x, y); pen.lineTo(...at); pen.stroke();
    pen.fillStyle = color.accent;
    pen.beginPath(); pen.arc(...at, 4, 0, 2 * Math.PI); pen.fill();
  }

  // Monitor units of each span, and those that have been delivered at the control point.
  function drawUnits(canvas, beam, n) {
    const { pen, width, height } = fitted(canvas);
    const left = 46, right = width - 6, top = 20, bottom = height - 20;
    const units = beam.shares.slice(1).map((share, k) => (share - beam.shares[k]) * beam.mu);
    const most = Math.max(...units) || 1;
    const wide = (right - left) / units.length;
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = color.ink;
    pen.fillText("MU to the next control point", left, 12);
    pen.textAlign = "right";
    pen.fillText(most.toFixed(most < 10 ? 1 : 0), left - 6, top + 8);
    pen.fillText("0", left - 6, bottom);
    pen.textAlign = "left";
    units.forEach((mu, k) => {
      pen.fillStyle = k < n ? color.accent : "#a9c3d6";
      const tall = mu / most * (bottom - top);
      pen.fillRect(left + k * wide, bottom - tall, Math.max(wide - (wide > 3 ? 1 : 0), 0.5), tall);
    });
    pen.strokeStyle = color.rule;
    pen.beginPath(); pen.moveTo(left, bottom + 0.5); pen.lineTo(right, bottom + 0.5); pen.stroke();
    pen.strokeStyle = "#d55e00";
    pen.lineWidth = 1.5;
    pen.beginPath(); pen.moveTo(left + n * wide, top - 4); pen.lineTo(left + n * wide, bottom + 4); pen.stroke();
    pen.fillStyle = color.soft;
    pen.fillText("control points", left, height - 5);
  }

  function stateOf(beam, n) {
    const last = beam.shares.length - 1;
    const given = beam.shares[n] * beam.mu;
    const words = [
      ["Control point", `${n} of ${last}`],
      ["Gantry", `${beam.gantry[n].toFixed(1)}°`],
      ["Delivered", `${given.toFixed(1)} MU (${(100 * beam.shares[n]).toFixed(1)} %)`],
    ];
    if (n < last) words.push(["To the next", `${((beam.shares[n + 1] - beam.shares[n]) * beam.mu).toFixed(2)} MU`]);
    for (const axis of ["x", "y"]) {
      if (beam.jaws[axis]) words.push([`Jaws ${axis}`, `${beam.jaws[axis][n].map((mm) => mm.toFixed(1)).join(" to ")} mm`]);
    }
    return words;
  }

  function show(section, beam, n) {
    drawAperture(section.querySelector(".aperture"), beam, n);
    drawUnits(section.querySelector(".units"), beam, n);
    const state = section.querySelector(".state");
    state.replaceChildren(...stateOf(beam, n).map(([what, value]) => {
      const word = document.createElement("span");
      const bold = document.createElement("b");
      bold.textContent = value;
      word.append(`${what} `, bold);
      return word;
    }));
  }

  function start(section) {
    const beam = beams[Number(section.dataset.beam)];
    const slider = section.querySelector("input");
    const button = section.querySelector(".play");
    let timer = 0;
    const draw = () => show(section, beam, Number(slider.value));
    function stop() {
      window.clearInterval(timer);
      timer = 0;
      button.setAttribute("aria-pressed", "false");
      button.textContent = "Play";
    }
    function step() {
      if (Number(slider.value) >= Number(slider.max)) return stop();
      slider.value = String(Number(slider.value) + 1);
      return draw();
    }
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (slider.value === slider.max) slider.value = "0";
      draw();
      button.setAttribute("aria-pressed", "true");
      button.textContent = "Stop";
      timer = window.setInterval(step, STEP_MS);
      return undefined;
    });
    slider.addEventListener("input", () => { stop(); draw(); });
    window.addEventListener("resize", draw);
    draw();
  }

  document.getElementById("lower").hidden = !beams.some((beam) => beam.layers.length > 1);
  document.querySelectorAll(".beam").forEach(start);
})();
