// Dose–volume histograms.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byName = new Map(data.structures.map((s) => [s.name, s]));
  const dashes = ["solid", "dash", "dot"];
  // Plotly reads some markup in names, and these come from other systems' files.
  const short = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function traces(scheme, hidden) {
    return data.curves.flatMap((set, n) =>
      set.curves.map((curve) => {
        const known = byName.get(curve.name);
        return {
          x: curve.dose,
          y: curve.volume,
          name: plain(short(curve.name)),
          mode: "lines",
          line: { color: known ? known[scheme] : "#333333", width: 2, dash: dashes[Math.min(n, 2)] },
          showlegend: n === 0 || !data.curves[0].curves.some((c) => c.name === curve.name),
          legendgroup: curve.name,
          visible: !hidden.has(curve.name),
          hovertemplate: `%{x:.1f} Gy: %{y:.1f} %<extra>${plain(curve.name)}, ${plain(set.on)}</extra>`,
        };
      }),
    );
  }

  const layout = {
    margin: { l: 52, r: 10, t: 34, b: 44 },
    font: { family: "system-ui, sans-serif", size: 12, color: "#1c2733" },
    xaxis: { title: { text: "Dose (Gy)" }, rangemode: "tozero", gridcolor: "#e6eaef", zeroline: false },
    yaxis: { title: { text: "Volume (%)" }, range: [0, 102], gridcolor: "#e6eaef", zeroline: false },
    hoverlabel: { namelength: -1 },
    legend: { font: { size: 11 }, tracegroupgap: 0 },
    shapes: [
      {
        type: "line", x0: data.prescription, x1: data.prescription, y0: 0, y1: 1, yref: "paper",
        line: { color: "#566573", width: 1, dash: "dot" },
      },
    ],
    annotations: [
      {
        x: data.prescription, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
        text: `${data.prescription} Gy`, font: { size: 11, color: "#566573" },
      },
    ],
  };
  const words = ["solid", "dashed", "dotted"];
  document.getElementById("sets").textContent = data.curves.map((set, n) => `${words[Math.min(n, 2)]}: ${set.on}`).join(" · ");
  // Plotly would offer to send the data to its makers' server.
  const config = {
    showSendToCloud: false, plotlyServerURL: "", displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  window.drawHistograms = (scheme, hidden) => Plotly.react("dvh", traces(scheme, hidden), layout, config);
  window.drawHistograms("safe", new Set());
})();
