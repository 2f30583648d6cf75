"use strict";
// What goes wrong, cause by cause: a line each, its row and script when it is opened.

const CAUSES_AT_ONCE = 25;

function causeDetails(cause) {
  const tier = cause.tier === "defect" ? "text-defective" : "text-inaccurate";
  const summary = element("summary", {},
    element("span", { className: tier, textContent: cause.kind }),
    ` ${cause.path} · ${cause.region} · ${cause.formats} · ${cause.modes}`,
    element("span", { className: "soft", textContent: ` ${amount(cause.cells, "cell")}, ${cause.route}${cause.designed ? ", as documented" : ""}` }),
  );
  const details = element("details", { className: "finding" }, summary);
  details.addEventListener("toggle", () => {
    if (details.childElementCount > 1) return;
    const rows = cause.pairs.map(([name, observed, exact]) => [name, observed, exact]);
    details.append(
      element("p", { textContent: cause.meaning }),
      ...(rows.length ? [table(["", "observed", "exact"], rows)] : []),
      element("p", { className: "soft", textContent: `${cause.figures}. This kind shows in ${amount(cause.rows, "row")} of these cells, in any region.` }),
      cause.code
        ? element("div", { className: "code" },
          element("button", { type: "button", className: "copy control", textContent: "copy" }),
          element("pre", {}, element("code", { textContent: cause.code })))
        : element("p", { className: "soft", textContent: "There is no row, or one too long to show: recipe and number in results.json lead to it." }),
    );
  });
  return details;
}

function startCauses(data) {
  const place = document.getElementById("cause-list");
  if (!place) return;
  const fields = ["tier", "kind", "loss", "path", "region"].map((name) => ({ name, any: true }));
  fields[0].first = "defect";
  const choice = chooser(document.getElementById("cause-controls"), data.causes, fields, () => show());
  function show(count = CAUSES_AT_ONCE) {
    const causes = choice.records();
    const more = element("button", { type: "button", className: "control", textContent: `show more of ${causes.length}` });
    more.addEventListener("click", () => {
      place.lastElementChild.remove();
      place.append(...causes.slice(count, count + CAUSES_AT_ONCE).map(causeDetails));
      count += CAUSES_AT_ONCE;
      if (causes.length > count) place.append(more);
    });
    place.replaceChildren(...causes.slice(0, count).map(causeDetails), ...(causes.length > count ? [more] : []));
  }
  show();
}
