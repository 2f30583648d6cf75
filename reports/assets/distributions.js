"use strict";
// Error distributions of many cells in one picture, a line each, by cell and by family.

const MEASURES = ["loss", "gradient"];
const ALL = "all";
const SMALLEST_SHARE = 1e-5;

// Runs of counts by octave as {octave, count}.
function octavesOf(data, place) {
  return data.octaves[place].flatMap(([first, ...counts]) =>
    counts.map((count, step) => ({ octave: first + step, count })),
  );
}

// Points (error, share above) of a family, from its octaves.
function octaveCurve(data, place) {
  const octaves = octavesOf(data, place);
  const total = d3.sum(octaves, (one) => one.count);
  let above = total;
  return octaves
    .filter((one) => one.octave !== data.octaveEnds.infinite)
    .map(({ octave, count }) => {
      above -= count;
      return [2 ** (octave + 1), above / total];
    });
}

function octaveQuantile(data, place, part) {
  const octaves = octavesOf(data, place);
  const rank = Math.max(1, Math.ceil(part * d3.sum(octaves, (one) => one.count)));
  let below = 0;
  for (const { octave, count } of octaves) {
    below += count;
    if (below < rank) continue;
    if (octave === data.octaveEnds.infinite) return "∞";
    return octave === data.octaveEnds.none ? `< ${power(octave + 1)}` : `≤ ${power(octave + 1)}`;
  }
  return "-";
}

function startDistributions(data) {
  const cells = data.cells.filter((cell) => !cell.unavailable);
  const families = [...new Set(data.families.flatMap((one) => Object.keys(one)))].sort();
  const routes = [...new Set(cells.map((cell) => cell.route))];
  const colors = d3.scaleOrdinal(routes, d3.schemeObservable10 ?? d3.schemeTableau10);
  const place = document.getElementById("distribution-plots");
  const controls = document.getElementById("distribution-controls");
  const figures = document.getElementById("distribution-table");
  const view = element("select", { name: "view" }, new Option("share of errors above"), new Option("histogram"));
  const family = element("select", { name: "family" }, ...[ALL, ...families].map((name) => new Option(name, name)));
  const choice = chooser(
    controls,
    cells,
    [
      { name: "loss" },
      { name: "path", any: true },
      { name: "format", any: true, first: "float32" },
      { name: "mode", any: true, first: "eager" },
      { name: "device", any: true },
    ],
    () => redraw(),
  );
  controls.append(element("label", {}, "family", family), element("label", {}, "view", view));

  const nameOf = (cell) => `${cell.path} ${cell.format} ${cell.mode} ${cell.device}`;
  const octavePlace = (cell, measure) => {
    if (family.value === ALL) return cell.octaves[measure];
    return data.families[cell.families][family.value]?.octaves[measure];
  };
  function curveOf(cell, measure) {
    if (family.value === ALL) return data.curves[cell.curves[measure]];
    const found = octavePlace(cell, measure);
    return found === undefined ? [] : octaveCurve(data, found);
  }
  function abovePlot(shown, measure, width) {
    const points = shown.flatMap((cell) =>
      curveOf(cell, measure).map(([error, above]) => ({
        at: squeezed(Math.max(Math.log2(error), -10)), error, above: Math.max(above, SMALLEST_SHARE), told: above, name: nameOf(cell), route: cell.route,
      })),
    );
    return plot(`ULP error of the ${MEASURES[measure]}: share of errors above`, {
      width, height: 290, marginLeft: 58, marginRight: 12,
      x: ulpAxis(d3.max(points, (point) => point.error) ?? 1),
      y: { type: "log", domain: [SMALLEST_SHARE, 1], label: "share above", grid: true, ticks: 5, tickFormat: (value) => `${+(100 * value).toPrecision(1)} %` },
      marks: [
        Plot.ruleX([-1], { stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "3,3" }),
        Plot.line(points, { x: "at", y: "above", z: "name", stroke: (point) => colors(point.route), curve: "step-after", strokeWidth: 1.5, strokeOpacity: 0.85, clip: true }),
        Plot.tip(points, Plot.pointer({ x: "at", y: "above", title: (point) => `${point.name}\n${point.route}\n${figure(100 * point.told)} % above ${figure(point.error)} ulp` })),
      ],
    });
  }
  function histogramPlot(shown, measure, width) {
    const { none, infinite } = data.octaveEnds;
    const found = shown.flatMap((cell) => {
      const at = octavePlace(cell, measure);
      const octaves = at === undefined ? [] : octavesOf(data, at);
      const total = d3.sum(octaves, (one) => one.count);
      return octaves.map((one) => ({ ...one, share: one.count / total, name: nameOf(cell), route: cell.route }));
    });
    const last = Math.max(3, d3.max(found, (one) => (one.octave === infinite ? none : one.octave)) ?? 3) + 2;
    for (const one of found) if (one.octave === infinite) one.octave = last;
    const byName = d3.groups(found, (one) => one.name);
    const steps = byName.flatMap(([, bars]) => {
      const byOctave = new Map(bars.map((bar) => [bar.octave, bar]));
      return d3.range(none, last + 1).map((octave) => byOctave.get(octave) ?? { ...bars[0], octave, share: 0, count: 0 });
    });
    const label = (octave) => (octave === none ? "less" : octave === last ? "∞" : power(octave));
    return plot(`ULP error of the ${MEASURES[measure]}: histogram by octaves`, {
      width, height: 290, marginLeft: 58, marginRight: 12,
      x: octaveAxis(data, last, width),
      y: { label: "share of errors", grid: true, tickFormat: (value) => `${+(100 * value).toPrecision(3)} %` },
      marks: [
        byName.length === 1
          ? Plot.rectY(found, { x1: (one) => octaveEnds(one.octave, last).from, x2: (one) => octaveEnds(one.octave, last).to, y: "share", fill: (one) => colors(one.route), insetLeft: 1 })
          : Plot.line(steps, { x: (one) => squeezed(one.octave), y: "share", z: "name", stroke: (one) => colors(one.route), curve: "step-after", strokeOpacity: 0.8 }),
        Plot.ruleY([0], { strokeOpacity: 0.4 }),
        Plot.tip(found, Plot.pointerX({ x: (one) => squeezed(one.octave + 0.5), y: "share", title: (one) => `${one.name}\n${one.route}\n${figure(100 * one.share)} % (${one.count.toLocaleString("en")}) from ${label(one.octave)} ulp` })),
      ],
    });
  }
  function figureRows(shown) {
    return shown.map((cell) => {
      const quantiles = (measure) => {
        if (family.value === ALL) return cell.quantiles[MEASURES[measure]].map(figure);
        const at = octavePlace(cell, measure);
        return [0.5, 0.99, 0.9999, 1].map((part) => (at === undefined ? "-" : octaveQuantile(data, at, part)));
      };
      return [cell.path, cell.format, cell.mode, cell.device, ...quantiles(0), ...quantiles(1)];
    });
  }
  const headings = ["path", "format", "mode", "device", ...MEASURES.flatMap((measure) => ["median", "p99", "p99.99", "max"].map((part) => `${measure} ${part}`))];
  function draw(width) {
    const shown = choice.records();
    const present = routes.filter((route) => shown.some((cell) => cell.route === route));
    const each = width > 800 ? (width - 24) / 2 : width;
    const one = view.value === "histogram" ? histogramPlot : abovePlot;
    figures.replaceChildren(table(headings, figureRows(shown)));
    legend.replaceChildren(swatches(present.map((route) => [route, colors(route)])));
    return [0, 1].map((measure) => one(shown, measure, each));
  }
  const legend = element("div", { className: "legend-line" });
  place.before(legend);
  const redraw = drawn(place, draw);
  for (const select of [family, view]) select.addEventListener("change", redraw);
  return choice;
}
