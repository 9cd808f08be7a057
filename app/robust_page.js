// Dose–volume histograms as bands: between the least and the most volume of all scenarios.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  // Plotly reads some markup in names, and these come from other systems' files.
  const short = (text) => (text.length > 20 ? `${text.slice(0, 19)}…` : text);
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const faint = (color) => `rgba(${[1, 3, 5].map((n) => parseInt(color.slice(n, n + 2), 16)).join(",")},0.22)`;

  const traces = data.bands.flatMap((band) => {
    const visible = band.hidden ? "legendonly" : true;
    const edge = {
      x: band.dose, mode: "lines", line: { color: band.color, width: 0.6 }, legendgroup: band.name,
      showlegend: false, hoverinfo: "skip", visible,
    };
    return [
      { ...edge, y: band.low },
      { ...edge, y: band.high, fill: "tonexty", fillcolor: faint(band.color) },
      {
        ...edge, y: band.nominal, name: plain(short(band.name)), line: { color: band.color, width: 2.2 },
        showlegend: true, hoverinfo: "all",
        customdata: band.low.map((low, n) => [low, band.high[n]]),
        hovertemplate: `%{x:.1f} Gy: %{y:.1f} % as planned, %{customdata[0]:.1f} to %{customdata[1]:.1f} %<extra>${plain(band.name)}</extra>`,
      },
    ];
  });
  const narrow = window.innerWidth <= 640;
  const layout = {
    margin: { l: 52, r: 12, t: 34, b: 46 },
    font: { family: "system-ui, sans-serif", size: 12, color: "#1c2733" },
    hoverlabel: { namelength: -1 },
    xaxis: { title: { text: "Dose (Gy)" }, rangemode: "tozero", gridcolor: "#e6eaef", zeroline: false },
    yaxis: { title: { text: "Volume (%)" }, range: [0, 102], gridcolor: "#e6eaef", zeroline: false },
    legend: { font: { size: 11 }, tracegroupgap: 0, ...(narrow ? { orientation: "h", y: -0.25 } : {}) },
    shapes: [{
      type: "line", x0: data.prescription, x1: data.prescription, y0: 0, y1: 1, yref: "paper",
      line: { color: "#566573", width: 1, dash: "dot" },
    }],
    annotations: [{
      x: data.prescription, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
      text: `${data.prescription} Gy`, font: { size: 11, color: "#566573" },
    }],
  };
  // Plotly would offer to send the data to its makers' server.
  const config = {
    showSendToCloud: false, plotlyServerURL: "", displaylogo: false, responsive: true,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  Plotly.react("bands", traces, layout, config);
  document.documentElement.dataset.ready = "bands";
})();
