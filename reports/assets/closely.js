"use strict";
// One cell: its figures, where it breaks by margin and classes, and which families do it.

const LEVELS = [
  [0, "≤ 1", "#3c6fb4"], [2, "≤ 4", "#5d9bc4"], [4, "≤ 16", "#8fc3c9"], [8, "≤ 2⁸", "#d9dfa6"], [12, "≤ 2¹²", "#f2cf63"],
  [16, "≤ 2¹⁶", "#ee9a4d"], [24, "≤ 2²⁴", "#dd5f3f"], [1023, "more", "#a8202f"], [Infinity, "NaN or ∞", "#b0279a"],
];
const levelOf = (level) => LEVELS.find(([least]) => level <= least);

function edgeText(value) {
  const number = Number(value);
  const size = Math.abs(number);
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "-∞";
  return size < 1e4 ? String(number) : (number < 0 ? "-" : "") + power(Math.log2(size));
}

function binText(data, bin) {
  return `${edgeText(data.edges[bin])} to ${edgeText(data.edges[bin + 1])}`;
}

function placesOf(data, cell) {
  return Object.entries(data.maps[cell.map]).flatMap(([classes, places]) =>
    places.map(([bin, rows, loss, gradient, defective = 0]) => ({ classes: Number(classes), bin, rows, loss, gradient, defective })),
  );
}

function cliffTexts(data, places) {
  return d3.groups(places, (one) => one.classes).sort((a, b) => a[0] - b[0]).map(([classes, found]) => {
    const first = found.filter((one) => Number(data.edges[one.bin]) >= 0).sort((a, b) => a.bin - b.bin).find((one) => 2 * one.defective >= one.rows);
    const any = d3.sum(found, (one) => one.defective);
    const where = first ? `from margins of ${binText(data, first.bin)} on half the rows or more are defective`
      : any ? `${amount(any, "defective row")}, nowhere half of a bin` : "no defect";
    return `${classes === 1 ? "1 class" : `${classes} classes`}: ${where}`;
  });
}

function stabilityPlot(data, places, width, { title, fill, told }) {
  const counts = [...new Set(places.map((one) => one.classes))].sort((a, b) => a - b);
  const [low, high] = d3.extent(places, (one) => one.bin);
  const room = width / (high + 1 - low);
  const wanted = [-(2 ** 64), -(2 ** 16), -1024, -128, -64, -32, -16, -8, 0, 8, 16, 24, 32, 64, 104, 128, 1024, 2 ** 16, 2 ** 64];
  let last = -Infinity;
  const ticks = wanted.map((edge) => data.edges.findIndex((one) => Number(one) === edge))
    .filter((bin) => bin >= low && bin <= high + 1 && (bin - last) * room >= 34 && ((last = bin), true));
  return plot(title, {
    width, height: counts.length * (counts.length > 4 ? 20 : 30) + 46, marginLeft: 50, marginRight: 12,
    x: { domain: [low, high + 1], ticks, tickFormat: (bin) => edgeText(data.edges[bin]), label: "margin" },
    y: { type: "band", domain: counts, label: "classes", tickFormat: String, padding: 0.06 },
    marks: [
      Plot.rect(places, { x1: "bin", x2: (one) => one.bin + 1, y: "classes", fill, inset: 0 }),
      Plot.ruleX([data.edges.findIndex((one) => Number(one) === 0)].filter((bin) => bin >= low && bin <= high), { stroke: "currentColor", strokeOpacity: 0.6 }),
      Plot.tip(places, Plot.pointer({ x: (one) => one.bin + 0.5, y: "classes", title: (one) => `${one.classes === 1 ? "1 class" : `${one.classes} classes`}, margin ${binText(data, one.bin)}\n${amount(one.rows, "row")}, ${one.defective.toLocaleString("en")} defective\n${told(one)}` })),
    ],
  });
}

function stabilityPlots(data, cell, width) {
  const places = placesOf(data, cell);
  if (!places.length) return [element("p", { className: "soft", textContent: "No margins were kept of this cell." })];
  const told = (one) => `worst loss ${levelOf(one.loss)[1]} u, worst gradient ${levelOf(one.gradient)[1]} u`;
  const shares = d3.scaleSequential([0, 1], d3.interpolateYlOrRd);
  const maps = MEASURES.map((measure) => stabilityPlot(data, places, width, {
    title: `Worst error of the ${measure}`, fill: (one) => levelOf(one[measure])[2], told,
  }));
  return [
    element("ul", {}, ...cliffTexts(data, places).map((text) => element("li", { textContent: text }))),
    swatches(LEVELS.map(([, label, color]) => [`${label}${label.startsWith("≤") ? " u" : ""}`, color])),
    ...maps,
    swatches([0, 0.25, 0.5, 0.75, 1].map((part) => [part ? `${100 * part} % defective` : "no row defective", part ? shares(part) : "#3f9b6c"])),
    stabilityPlot(data, places, width, {
      title: "Share of defective rows", told, fill: (one) => (one.defective ? shares(one.defective / one.rows) : "#3f9b6c"),
    }),
  ];
}

// One hue, so that it reads on light and on dark paper: a hundredth of a percent is faint.
const SHARE_COLOR = "#2b7fd4";
const shareOpacity = (part) => 1 + 0.19 * Math.max(-4, Math.log10(part));

function shareLegend() {
  const shown = swatches([1e-4, 1e-3, 1e-2, 1e-1, 1].map((part) => [`${Number((100 * part).toPrecision(1))} %`, SHARE_COLOR]));
  shown.querySelectorAll("i").forEach((mark, step) => (mark.style.opacity = shareOpacity(10 ** (step - 4))));
  shown.prepend(element("span", { textContent: "share of the family's errors:" }));
  return shown;
}

function familyPlot(data, families, measure, width) {
  const { none, infinite } = data.octaveEnds;
  const found = Object.entries(families).flatMap(([name, family]) => {
    const octaves = octavesOf(data, family.octaves[measure]);
    const total = d3.sum(octaves, (one) => one.count);
    return octaves.map((one) => ({ family: name, octave: one.octave, count: one.count, share: one.count / total }));
  });
  const last = Math.max(3, d3.max(found, (one) => (one.octave === infinite ? none : one.octave)) ?? 3) + 2;
  for (const one of found) if (one.octave === infinite) one.octave = last;
  const label = (octave) => (octave === none ? "less" : octave === last ? "∞" : power(octave));
  return plot(`ULP errors of the ${MEASURES[measure]} by family`, {
    width, height: Object.keys(families).length * 19 + 46, marginLeft: 136, marginRight: 12,
    x: octaveAxis(data, last, width - 140),
    y: { type: "band", domain: Object.keys(families), label: null, padding: 0.08, tickFormat: (name) => name.replaceAll("_", " ") },
    opacity: { type: "identity" },
    marks: [
      Plot.rect(found, { x1: (one) => octaveEnds(one.octave, last).from, x2: (one) => octaveEnds(one.octave, last).to, y: "family", fill: SHARE_COLOR, fillOpacity: (one) => shareOpacity(one.share), insetLeft: 1 }),
      Plot.ruleX([-1], { stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "3,3" }),
      Plot.tip(found, Plot.pointer({ x: (one) => squeezed(one.octave + 0.5), y: "family", title: (one) => `${one.family}\n${figure(100 * one.share)} % (${one.count.toLocaleString("en")}) from ${label(one.octave)} ulp` })),
    ],
  });
}

function facts(data, cell) {
  const line = (name, text) => element("span", {}, `${name} `, element("b", { textContent: text }));
  const kinds = (title, counts) => Object.entries(counts).map(([kind, count]) => line(`${title} ${kind}`, share(count, cell.judged)));
  if (cell.unavailable) return [element("p", { textContent: cell.unavailable })];
  const known = (name, text) => (text ? [line(name, text)] : []);
  return [
    element("p", { className: "facts" }, line("route", cell.route), line("judged rows", cell.judged.toLocaleString("en")),
      ...known("gradient vanishes from margin", cell.vanishing), ...known("is exactly 0 from", cell.zero), ...known("loss stops at", cell.plateau)),
    element("p", { className: "facts" }, ...kinds("defect:", cell.defects), ...(Object.keys(cell.defects).length ? [] : [line("defects", "none")]), ...(cell.designed ? [line("all as", "documented")] : [])),
    element("div", { className: "scroll" }, table(["ULP error", "median", "p99", "p99.99", "max", "worst in u"], MEASURES.map((measure, at) => [measure, ...cell.quantiles[measure].map(figure), figure(cell.mixed[at])]))),
  ];
}

function familyTable(data, families) {
  const rows = Object.entries(families).map(([name, one]) => [
    name, one.judged.toLocaleString("en"),
    Object.entries(one.defects).map(([kind, count]) => `${kind} ${share(count, one.judged)}`).join(", ") || "none",
    ...[0, 1].flatMap((measure) => [...[0.5, 0.99, 1].map((part) => octaveQuantile(data, one.octaves[measure], part)), figure(one.mixed[measure])]),
  ]);
  return table(["family", "judged rows", "defects", ...MEASURES.flatMap((measure) => [`${measure} median`, "p99", "max", "worst in u"])], rows);
}

function startClosely(data) {
  const cells = data.cells.filter((cell) => !cell.unavailable);
  const get = (id) => document.getElementById(id);
  const fields = [{ name: "loss" }, { name: "path" }, { name: "format", first: "float32" }, { name: "mode" }, { name: "device" }];
  const choice = chooser(get("cell-controls"), cells, fields, () => draws.forEach((draw) => draw()));
  const cell = () => choice.records()[0];
  get("family-plots").before(shareLegend());
  const draws = [
    drawn(get("cell-facts"), () => facts(data, cell())),
    drawn(get("stability-plots"), (width) => stabilityPlots(data, cell(), width)),
    drawn(get("family-plots"), (width) => {
      const families = data.families[cell().families];
      get("family-table").replaceChildren(familyTable(data, families));
      if (!Object.keys(families).length) return element("p", { className: "soft", textContent: "No families were kept of this cell." });
      return [0, 1].map((measure) => familyPlot(data, families, measure, width > 800 ? (width - 24) / 2 : width));
    }),
  ];
  return choice;
}
