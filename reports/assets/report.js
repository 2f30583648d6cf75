"use strict";
// The report: the matrix and its squares, findings, costs, and the start of it all.

function startMatrix(data, choices) {
  const bodies = [...document.querySelectorAll(".matrix tbody")];
  const set = (body, open) => {
    body.classList.toggle("folded", !open);
    body.querySelector(".fold").setAttribute("aria-expanded", String(open));
  };
  const unfold = document.getElementById("unfold");
  unfold.addEventListener("click", () => {
    const open = bodies.some((body) => body.classList.contains("folded"));
    for (const body of bodies) set(body, open);
    unfold.textContent = open ? "close all" : "open all";
  });
  if (bodies.length === 1) set(bodies[0], true);
  document.querySelector(".matrix").addEventListener("click", (event) => {
    const fold = event.target.closest(".fold");
    if (fold) set(fold.closest("tbody"), fold.closest("tbody").classList.contains("folded"));
    const square = event.target.closest("[data-cell]");
    if (square) showDetail(data, square, choices);
  });
}

function showDetail(data, square, choices) {
  const panel = document.getElementById("detail");
  const cell = data.cells[Number(square.dataset.cell)];
  const close = () => {
    panel.hidden = true;
    square.classList.remove("chosen");
  };
  for (const other of document.querySelectorAll(".square.chosen")) other.classList.remove("chosen");
  square.classList.add("chosen");
  const jump = (text, id, act) => {
    const button = element("button", { type: "button", textContent: text });
    button.addEventListener("click", () => {
      act();
      close();
      document.getElementById(id).scrollIntoView();
    });
    return button;
  };
  const closing = element("button", { type: "button", className: "close", textContent: "×", ariaLabel: "close" });
  closing.addEventListener("click", close);
  const defects = Object.keys(cell.defects ?? {});
  const more = cell.unavailable ? [] : [
    element("p", {}, jump("this cell closely", "closely", () => choices.closely.choose(cell)), " ", jump("its distributions", "distributions", () => choices.distributions.choose(cell))),
  ];
  panel.replaceChildren(
    closing,
    element("h3", { textContent: cell.path }),
    element("p", { className: "soft", textContent: `${cell.loss} · ${cell.format} ${cell.mode} ${cell.device}` }),
    element("p", {}, element("i", { className: square.className.replace("chosen", ""), textContent: square.textContent }), ` ${cell.meaning}`),
    ...facts(data, cell),
    ...(defects.length ? [element("ul", { className: "soft" }, ...defects.map((kind) => element("li", { textContent: `${kind}: ${data.kinds[kind] ?? ""}` })))] : []),
    ...more,
  );
  panel.hidden = false;
}

function startFindings() {
  const findings = [...document.querySelectorAll(".finding")];
  const place = document.getElementById("finding-controls");
  if (!findings.length) return;
  const records = findings.map((one) => ({ ...one.dataset, element: one }));
  const fields = ["tier", "kind", "loss"].map((name) => ({ name, any: true }));
  fields[0].first = "defect";
  const choice = chooser(place, records, fields, () => show());
  const show = () => {
    const shown = new Set(choice.records().map((record) => record.element));
    for (const one of findings) one.hidden = !shown.has(one);
  };
  show();
}

function startCopying() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
}

// Of every route the dearest path, by mode.
function costPlot(costs, name, title, width) {
  const measured = costs.filter((cost) => Number.isFinite(Number(cost[name])));
  const bars = d3.groups(measured, (cost) => cost.route, (cost) => cost.mode)
    .flatMap(([, modes]) => modes.map(([, found]) => d3.greatest(found, (cost) => cost[name])));
  const routes = d3.groupSort(bars, (found) => d3.max(found, (cost) => cost[name]), (cost) => cost.route);
  const modes = [...new Set(bars.map((cost) => cost.mode))];
  const colors = d3.scaleOrdinal(["eager", "graph", "xla"], ["#4269d0", "#efb118", "#3ca951"]);
  const lines = new Map(routes.map((route) => [route, route.length > 24 ? `${route.slice(0, 23)}…` : route]));
  return plot(title, {
    width, height: bars.length * 16 + routes.length * 12 + 50, marginLeft: 10, marginRight: 44, insetTop: 4,
    x: { label: null, grid: true, domain: [0, d3.max(bars, (cost) => cost[name]) ?? 1] },
    y: { type: "band", axis: null, domain: routes.flatMap((route) => [route, ...modes.filter((mode) => bars.some((bar) => bar.route === route && bar.mode === mode)).map((mode) => `${route} ${mode}`)]), padding: 0.12 },
    marks: [
      Plot.text(routes, { x: 0, y: (route) => route, text: (route) => lines.get(route), textAnchor: "start", fontWeight: 600 }),
      Plot.barX(bars, { x: name, y: (cost) => `${cost.route} ${cost.mode}`, fill: (cost) => colors(cost.mode) }),
      Plot.text(bars, { x: name, y: (cost) => `${cost.route} ${cost.mode}`, text: (cost) => figure(cost[name]), textAnchor: "start", dx: 4 }),
      Plot.tip(bars, Plot.pointer({ x: name, y: (cost) => `${cost.route} ${cost.mode}`, title: (cost) => `${cost.route}, ${cost.mode}\n${cost.path}\n${figure(cost[name])}` })),
    ],
  });
}

function startMemory(data) {
  const place = document.getElementById("memory-plots");
  if (!place) return;
  const choice = chooser(document.getElementById("memory-controls"), data.costs, [{ name: "loss" }, { name: "format", any: false }], () => redraw());
  const legend = swatches([["eager", "#4269d0"], ["graph", "#efb118"], ["xla", "#3ca951"]]);
  place.before(legend);
  const redraw = drawn(place, (width) => {
    const each = width > 800 ? (width - 24) / 2 : width;
    return [
      costPlot(choice.records(), "step", "Peak memory of loss and gradient, by the logits' size", each),
      costPlot(choice.records(), "time", "Time of a step, by the fused kernel's", each),
    ];
  });
}

async function start() {
  startTheme();
  startPrinting();
  startCopying();
  startFindings();
  const data = await unpack();
  const measured = data.cells.some((cell) => !cell.unavailable);
  const choices = measured ? { distributions: startDistributions(data), closely: startClosely(data) } : {};
  startMatrix(data, choices);
  startCauses(data);
  startMemory(data);
  document.documentElement.dataset.ready = "yes";
}
start();
