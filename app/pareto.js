// A slider along the front between two goals: their values, the histograms and all goals at each place.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $$ = (id) => document.getElementById(id);
  // Plotly reads some markup in names, and these come from other systems' files.
  const short = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const config = {
    showSendToCloud: false, plotlyServerURL: "", displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const base = {
    margin: { l: 58, r: 12, t: 34, b: 46 },
    font: { family: "system-ui, sans-serif", size: 12, color: "#1c2733" },
    hoverlabel: { namelength: -1 },
  };
  const axis = (text) => ({ title: { text: plain(text) }, gridcolor: "#e6eaef", zeroline: false });
  const label = (n) => `${data.pair[n].name} (${data.pair[n].unit}), ${data.pair[n].better} is better`;
  const narrow = () => window.innerWidth <= 640;
  const along = (n) => data.steps.map((step) => step.pair[n]);

  // The goals' limits as lines; one far from the front would squeeze it into a corner.
  function limits() {
    const near = [0, 1].filter((n) => {
      const values = along(n);
      return Math.min(...values) <= data.pair[n].limit && data.pair[n].limit <= Math.max(...values);
    });
    const soft = "#566573";
    return {
      shapes: near.map((n) => ({
        type: "line", line: { color: soft, width: 1, dash: "dot" },
        ...(n === 0
          ? { x0: data.pair[n].limit, x1: data.pair[n].limit, y0: 0, y1: 1, yref: "paper" }
          : { y0: data.pair[n].limit, y1: data.pair[n].limit, x0: 0, x1: 1, xref: "paper" }),
      })),
      annotations: near.map((n) => ({
        text: `goal ${data.pair[n].limit.toFixed(2)} ${data.pair[n].unit}`, showarrow: false, font: { size: 11, color: soft },
        xanchor: "left",
        ...(n === 0
          ? { x: data.pair[n].limit, y: 1, yref: "paper", yanchor: "top" }
          : { y: data.pair[n].limit, x: 0, xref: "paper", yanchor: "bottom" }),
      })),
    };
  }

  function drawFront(at) {
    const line = {
      x: along(0), y: along(1), mode: "lines", line: { color: "#1f5f8b", width: 2 }, hoverinfo: "skip", showlegend: false,
    };
    const nodes = data.nodes.map((n) => data.steps[n]);
    const found = {
      x: nodes.map((s) => s.pair[0]), y: nodes.map((s) => s.pair[1]), mode: "markers", showlegend: false,
      marker: { size: 9, color: "#ffffff", line: { color: "#1f5f8b", width: 2 } },
      hovertemplate: `%{x:.2f} ${data.pair[0].unit}, %{y:.2f} ${data.pair[1].unit}<extra></extra>`,
    };
    const here = {
      x: [data.steps[at].pair[0]], y: [data.steps[at].pair[1]], mode: "markers", showlegend: false, hoverinfo: "skip",
      marker: { size: 15, color: "#d55e00", symbol: "diamond", line: { color: "#ffffff", width: 1.5 } },
    };
    Plotly.react("front", [line, found, here], { ...base, xaxis: axis(label(0)), yaxis: axis(label(1)), ...limits() }, config);
  }

  function drawHistograms(at) {
    const traces = data.structures.map((s, n) => ({
      x: data.dose, y: data.steps[at].curves[n], name: plain(short(s.name)), mode: "lines",
      line: { color: s.color, width: 2 },
      hovertemplate: `%{x:.1f} Gy: %{y:.1f} %<extra>${plain(s.name)}</extra>`,
    }));
    const layout = {
      ...base,
      xaxis: { ...axis("Dose (Gy)"), range: [0, data.dose[data.dose.length - 1]] },
      yaxis: { ...axis("Volume (%)"), range: [0, 102] },
      legend: { font: { size: 11 }, tracegroupgap: 0, ...(narrow() ? { orientation: "h", y: -0.3 } : {}) },
      shapes: [{
        type: "line", x0: data.prescription, x1: data.prescription, y0: 0, y1: 1, yref: "paper",
        line: { color: "#566573", width: 1, dash: "dot" },
      }],
    };
    Plotly.react("dvh", traces, layout, config);
  }

  const words = { true: ["met", "✔", "Met"], false: ["unmet", "✖", "Not met"] };
  const rows = data.goals.map((goal, n) => {
    const row = document.createElement("tr");
    const cell = (kind, text) => row.appendChild(Object.assign(document.createElement(kind), { textContent: text }));
    cell("th", goal.structure).scope = "row";
    const asked = cell("td", goal.goal);
    if (goal.limit) asked.appendChild(Object.assign(document.createElement("small"), { textContent: `that is ${goal.limit}` }));
    const here = cell("td", "");
    const result = cell("td", "").appendChild(document.createElement("span"));
    for (const end of [0, data.steps.length - 1]) cell("td", `${data.steps[end].goals[n][0].toFixed(2)} ${goal.unit}`);
    document.querySelector("#goals tbody").appendChild(row);
    return (at) => {
      const [value, met] = data.steps[at].goals[n];
      const [kind, sign, word] = words[met];
      here.textContent = `${value.toFixed(2)} ${goal.unit}`;
      result.className = `verdict ${kind}`;
      result.textContent = `${sign} ${word}`;
    };
  });

  function tellOpen() {
    $$("open").hidden = false;
    $$("open").querySelector("summary").textContent = `Goals that could not be evaluated: ${data.open.length}`;
    for (const goal of data.open) {
      const line = document.createElement("li");
      line.textContent = `${goal.structure} ${goal.goal}: ${goal.reason}`;
      $$("open").querySelector("ul").appendChild(line);
    }
  }

  function show(at) {
    const step = data.steps[at];
    const node = data.nodes.indexOf(at);
    const parts = data.pair.map((goal, n) => `<span>${plain(goal.name)} <strong>${step.pair[n].toFixed(2)} ${goal.unit}</strong></span>`);
    const what = node < 0 ? "mixture of its neighbours" : `computed fluence ${node + 1} of ${data.nodes.length}`;
    const met = step.goals.filter((goal) => goal[1]).length;
    parts.push(`<span>Goals met <strong>${met} of ${step.goals.length}</strong></span>`);
    $$("now").innerHTML = `${parts.join("")}<span>${Math.round(100 * step.place)} % of the way: ${what}</span>`;
    $$("place").setAttribute("aria-valuetext", $$("now").innerText);
    rows.forEach((update) => update(at));
    drawFront(at);
    drawHistograms(at);
  }

  $$("place").max = data.steps.length - 1;
  $$("place").value = Math.round((data.steps.length - 1) / 2);
  $$("place").addEventListener("input", () => show(+$$("place").value));
  if (data.open.length) tellOpen();
  show(+$$("place").value);
  document.documentElement.dataset.ready = "front";
})();
