"use strict";
// What every page needs: its data, elements made of text alone, choosers, plots that fit.

async function unpack() {
  const text = document.getElementById("data").textContent.trim();
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function figure(value) {
  const number = Number(value);
  if (value === null || Number.isNaN(number)) return "-";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "-∞";
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size >= 0.01 && size < 1e4) return String(Number(number.toPrecision(3)));
  return number.toExponential(1).replace("e+", "e").replace(".0e", "e");
}

function share(part, whole) {
  if (!whole) return "-";
  return part ? `${Number(((100 * part) / whole).toPrecision(part < whole ? 2 : 3))} %` : "0";
}

// "1 row", "1,024 rows"
function amount(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function power(exponent) {
  if (exponent >= 0 && exponent <= 6) return String(2 ** exponent);
  return "2" + [...String(exponent)].map((digit) => SUPERSCRIPTS[digit]).join("");
}

function table(headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { textContent: text })));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((text) => element("td", { textContent: text }))),
  );
  return element("table", { className: "numbers" }, element("thead", {}, head), element("tbody", {}, ...body));
}

// Selects over records; each offers only what is left by those before it.
function chooser(place, records, fields, onchange) {
  const ANY = "all";
  const wished = {}; // by the reader; kept while it is not offered
  const chosen = {};
  const selects = {};
  function left(until) {
    return records.filter((record) =>
      fields.slice(0, until).every(({ name }) => chosen[name] === ANY || record[name] === chosen[name]),
    );
  }
  function fill() {
    fields.forEach(({ name, any, first }, position) => {
      const values = [...new Set(left(position).map((record) => record[name]))];
      const offered = any && values.length > 1 ? [ANY, ...values] : values;
      const wanted = [wished[name], first, any ? ANY : undefined, offered[0]];
      chosen[name] = wanted.find((value) => offered.includes(value));
      selects[name].replaceChildren(...offered.map((value) => new Option(value, value)));
      selects[name].value = chosen[name];
    });
  }
  for (const { name, label } of fields) {
    selects[name] = element("select", { name });
    selects[name].addEventListener("change", () => {
      wished[name] = selects[name].value;
      fill();
      onchange();
    });
    place.append(element("label", {}, label ?? name, selects[name]));
  }
  fill();
  return {
    records: () => left(fields.length),
    choose(record) {
      for (const { name } of fields) wished[name] = record[name];
      fill();
      onchange();
    },
  };
}

// Draws into a place at its width, and again when that changes.
function drawn(place, draw) {
  let width = 0;
  const redraw = () => {
    width = Math.max(260, Math.floor(place.clientWidth));
    place.replaceChildren(...[draw(width)].flat());
  };
  new ResizeObserver(() => {
    if (Math.abs(place.clientWidth - width) > 8) redraw();
  }).observe(place);
  redraw();
  return redraw;
}

function plot(title, options) {
  const made = Plot.plot({
    style: { background: "transparent", color: "currentColor", fontSize: "11.5px" },
    ...options,
  });
  return element("div", { className: "plot" }, element("h4", { textContent: title }), made);
}

// Logarithms of base 2, squeezed beyond 2**32: few errors lie there, but those that do matter.
const SQUEEZED_FROM = 32;
const squeezed = (exponent) => (exponent <= SQUEEZED_FROM ? exponent : SQUEEZED_FROM + (exponent - SQUEEZED_FROM) / 8);
const ULP_TICKS = [-10, -5, 0, 4, 8, 16, 24, 32, 64, 128, 256];

function ulpAxis(largest) {
  const end = Math.max(4, Math.log2(largest));
  const ticks = ULP_TICKS.filter((exponent) => exponent <= end);
  const labels = new Map(ticks.map((exponent) => [squeezed(exponent), power(exponent)]));
  return { domain: [-10, squeezed(end)], label: "ULP error", grid: true, ticks: [...labels.keys()], tickFormat: (at) => labels.get(at) };
}

// The same axis for whole octaves: less than the first, each, and at the end infinity.
function octaveAxis(data, last, room) {
  const { none } = data.octaveEnds;
  const labels = new Map([[none, "less"], [squeezed(last), "∞"]]);
  const step = room > 420 ? 1 : 2;
  ULP_TICKS.filter((exponent) => exponent > none + 3 && squeezed(exponent) < squeezed(last) - 1)
    .forEach((exponent, at) => at % step || labels.set(squeezed(exponent), power(exponent)));
  return { domain: [none, squeezed(last) + 1], label: "ULP error", ticks: [...labels.keys()], tickFormat: (at) => labels.get(at) };
}

const octaveEnds = (octave, last) => ({ from: squeezed(octave), to: octave === last ? squeezed(last) + 1 : squeezed(octave + 1) });

function swatches(entries) {
  const shown = entries.map(([label, color]) => {
    const mark = element("i");
    mark.style.background = color;
    return element("span", {}, mark, label);
  });
  return element("div", { className: "swatches" }, ...shown);
}

function startTheme() {
  const button = document.getElementById("theme");
  const themes = ["", "light", "dark"];
  const names = { "": "theme: auto", light: "theme: light", dark: "theme: dark" };
  const show = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = names[theme];
  };
  let now = 0;
  button.hidden = false;
  button.addEventListener("click", () => {
    now = (now + 1) % themes.length;
    show(themes[now]);
  });
  show("");
}

// What is folded on the screen is open on paper.
function startPrinting() {
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
}
