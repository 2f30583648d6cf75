"use strict";
// Two runs: the distributions of one cell in both, over each other.

const SIDES = [["A", "#4269d0"], ["B", "#e8743b"]];
const SMALLEST_SHARE = 1e-5;

function bothPlot(data, cell, measure, name, width) {
  const points = SIDES.flatMap(([side], at) =>
    data.curves[cell.sides[at].curves[measure]].map(([error, above]) => ({
      side, at: squeezed(Math.max(Math.log2(error), -10)), error, above: Math.max(above, SMALLEST_SHARE), told: above,
    })),
  );
  const colors = new Map(SIDES);
  return plot(`ULP error of the ${name}: share of errors above`, {
    width, height: 300, marginLeft: 58, marginRight: 12,
    x: ulpAxis(d3.max(points, (point) => point.error) ?? 1),
    y: { type: "log", domain: [SMALLEST_SHARE, 1], label: "share above", grid: true, ticks: 5, tickFormat: (value) => `${+(100 * value).toPrecision(1)} %` },
    marks: [
      Plot.ruleX([-1], { stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "3,3" }),
      Plot.line(points, { x: "at", y: "above", z: "side", stroke: (point) => colors.get(point.side), strokeDasharray: undefined, curve: "step-after", strokeWidth: (point) => (point.side === "A" ? 3 : 1.6), clip: true }),
      Plot.tip(points, Plot.pointer({ x: "at", y: "above", title: (point) => `${point.side}\n${figure(100 * point.told)} % above ${figure(point.error)} ulp` })),
    ],
  });
}

async function start() {
  startTheme();
  startPrinting();
  const data = await unpack();
  const place = document.getElementById("cell-plots");
  if (place) {
    const fields = ["status", "loss", "path", "format", "mode", "device"].map((name) => ({ name }));
    const choice = chooser(document.getElementById("cell-controls"), data.cells, fields, () => draws.forEach((draw) => draw()));
    place.before(swatches(SIDES));
    const draws = [
      drawn(document.getElementById("cell-facts"), () => {
        const cell = choice.records()[0];
        const rows = ["loss", "gradient"].flatMap((measure, at) =>
          SIDES.map(([side], number) => [`${measure} ULP`, side, ...cell.sides[number].quantiles[at].map(figure)]));
        return [
          element("ul", {}, ...cell.changes.map((text) => element("li", { textContent: text }))),
          element("div", { className: "scroll" }, table(["measure", "run", "median", "p99", "p99.99", "max"], rows)),
        ];
      }),
      drawn(place, (width) => {
        const each = width > 800 ? (width - 24) / 2 : width;
        return ["loss", "gradient"].map((name, measure) => bothPlot(data, choice.records()[0], measure, name, each));
      }),
    ];
  }
  document.documentElement.dataset.ready = "yes";
}
start();
