"use strict";
// Draws every chart, with panels side by side if there is room.
(() => {
  const PANEL_MIN = 330;
  const HEIGHT = { beside: 400, below: 290 };
  const GAP = { beside: 64, below: 100 };
  const MARGIN = { l: 40, r: 14, b: 54 };
  // Plotly's toolbar appears above the titles, but not on touch screens.
  const hasPointer = window.matchMedia("(hover: hover)").matches;
  const TOOLS = hasPointer ? 24 : 0;
  const TITLE_LINE = 18;
  const LETTER = 7;
  const LEGEND_LINE = 24;

  // An estimate: a larger legend only makes the panels slightly shorter.
  const legendHeight = (data, width) => {
    const names = data.filter((trace) => trace.showlegend).map((trace) => trace.name.length);
    const total = names.reduce((sum, letters) => sum + 56 + 7.5 * letters, 0);
    return LEGEND_LINE * Math.ceil(total / Math.max(width, 1)) + 12;
  };

  const INK = "#222222";
  const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
  const AXIS = { showline: true, linecolor: "#888888", ticks: "outside", zeroline: false, nticks: 6 };

  const styled = (panels) => {
    const layout = {
      template: "none",
      font: { family: FONT, size: 13, color: INK },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { bgcolor: "#ffffff", font: { family: FONT, color: INK } },
      hovermode: "closest",
      modebar: { bgcolor: "rgba(255,255,255,0.9)", color: "#777777" },
      annotations: [],
      legend: { orientation: "h", x: 0, xanchor: "left", tracegroupgap: 0 },
    };
    panels.forEach((panel, index) => {
      const number = index ? String(index + 1) : "";
      layout[`xaxis${number}`] = {
        ...AXIS, anchor: `y${number}`, showgrid: false, rangemode: "tozero",
        title: { text: "training step", standoff: 8, font: { size: 13 } },
        tickformat: "~s", hoverformat: ",d", ...(index ? { matches: "x" } : {}),
      };
      layout[`yaxis${number}`] = {
        ...AXIS, anchor: `x${number}`, gridcolor: "#ececec",
        ...(panel.isShare ? { range: [-0.03, 1.03] } : {}),
      };
      layout.annotations.push({
        text: panel.title, showarrow: false,
        xref: `x${number} domain`, yref: `y${number} domain`, x: 0, y: 1,
        xanchor: "left", yanchor: "bottom", yshift: 8, font: { size: 13 }, align: "left",
      });
    });
    return layout;
  };

  const arranged = (layout, data, width) => {
    const number = (key) => Number(key.slice("xaxis".length));
    const axes = Object.keys(layout)
      .filter((key) => key.startsWith("xaxis"))
      .sort((one, other) => number(one) - number(other));
    const count = axes.length;
    const inner = Math.max(width - MARGIN.l - MARGIN.r, 1);
    const beside = count === 1 || inner / count >= PANEL_MIN;
    const rows = beside ? 1 : count;
    const legend = legendHeight(data, inner);
    const panel = beside ? (inner - (count - 1) * GAP.beside) / count : inner;
    const isLong = layout.annotations.some((title) => title.text.length * LETTER > panel);
    const top = 16 + TITLE_LINE * (isLong ? 2 : 1) + (beside ? TOOLS : 0);
    const plot = rows * (beside ? HEIGHT.beside : HEIGHT.below) - top - MARGIN.b;
    const place = (index, length, gap) => {
      const share = (1 - ((count - 1) * gap) / length) / count;
      const start = index * (share + gap / length);
      return [start, Math.min(start + share, 1)];
    };
    const changes = {
      width,
      height: plot + top + MARGIN.b + legend,
      margin: { ...MARGIN, t: top, b: MARGIN.b + legend },
      annotations: layout.annotations.map((title) => ({
        ...title,
        text: isLong ? title.text.replace(/(\)):? /, "$1<br>") : title.text,
      })),
      legend: { ...layout.legend, y: -(MARGIN.b - 4) / plot, yanchor: "top" },
    };
    axes.forEach((key, index) => {
      const down = place(index, plot, GAP.below).map((end) => 1 - end).reverse();
      const columns = place(index, inner, GAP.beside);
      changes[key] = { ...layout[key], domain: beside ? columns : [0, 1] };
      const other = key.replace("x", "y");
      changes[other] = { ...layout[other], domain: beside ? [0, 1] : down };
    });
    return { ...layout, ...changes };
  };

  const draw = (box) => {
    const { data, panels } = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
    const layout = styled(panels);
    const options = {
      displaylogo: false,
      displayModeBar: hasPointer ? "hover" : false,
      modeBarButtonsToRemove: ["select2d", "lasso2d"],
    };
    let drawn = 0;
    const fit = () => {
      const width = Math.floor(box.parentElement.clientWidth);
      if (width === 0 || width === drawn) return;
      drawn = width;
      // Hidden conditions stay hidden.
      const shown = (box.data || data).map((trace) => trace.visible);
      data.forEach((trace, index) => { trace.visible = shown[index]; });
      Plotly.react(box, data, arranged(layout, data, width), options);
    };
    fit();
    new ResizeObserver(fit).observe(box.parentElement);
  };

  document.querySelectorAll(".chart").forEach(draw);
})();
