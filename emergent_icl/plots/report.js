"use strict";
// Draws every chart of the page, its panels beside each other where there is room for it.
(() => {
  const PANEL_MIN = 330;
  const HEIGHT = { beside: 400, below: 290 };
  const GAP = { beside: 64, below: 100 };
  const MARGIN = { l: 40, r: 14, b: 54 };
  // Plotly's tools come with the pointer, above the titles; a finger needs none of them.
  const hasPointer = window.matchMedia("(hover: hover)").matches;
  const TOOLS = hasPointer ? 24 : 0;
  const TITLE_LINE = 18;
  const LETTER = 7;
  const LEGEND_LINE = 24;

  // Rough: a legend that takes more only makes its panels a little lower.
  const legendHeight = (data, width) => {
    const names = data.filter((trace) => trace.showlegend).map((trace) => trace.name.length);
    const total = names.reduce((sum, letters) => sum + 56 + 7.5 * letters, 0);
    return LEGEND_LINE * Math.ceil(total / Math.max(width, 1)) + 12;
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
    const { data, layout } = JSON.parse(document.getElementById(`${box.id}-data`).textContent);
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
      // What a reader has hidden stays hidden.
      const shown = (box.data || data).map((trace) => trace.visible);
      data.forEach((trace, index) => { trace.visible = shown[index]; });
      Plotly.react(box, data, arranged(layout, data, width), options);
    };
    fit();
    new ResizeObserver(fit).observe(box.parentElement);
  };

  document.querySelectorAll(".chart").forEach(draw);
})();
