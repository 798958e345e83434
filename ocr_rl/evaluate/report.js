"use strict";
// Hides tests and pages that do not match the filters. Reads data attributes only; writes nothing but `hidden` and a count.
const field = (id) => document.getElementById(id);
const filters = ["status", "before", "after", "type", "find"].map(field).filter(Boolean);
const matches = {
  all: () => true,
  changed: (before, after) => before !== after,
  fixed: (before, after) => before === "0" && after === "1",
  broken: (before, after) => before === "1" && after === "0",
  neither: (before, after) => before === "0" && after === "0",
};

function apply() {
  const value = (id, otherwise) => (field(id) ? field(id).value : otherwise);
  const match = matches[value("status", "all")];
  const type = value("type", "");
  const find = value("find", "").toLowerCase();
  const [before, after] = [value("before", 0), value("after", 0)];
  const narrowed = value("status", "all") !== "all" || type !== "";
  let pages = 0;
  let tests = 0;
  for (const card of document.querySelectorAll(".card")) {
    let shown = 0;
    for (const row of card.querySelectorAll("tr[data-bits]")) {
      const bits = row.dataset.bits;
      row.hidden = !(match(bits[before], bits[after]) && (type === "" || row.dataset.type === type));
      shown += !row.hidden;
    }
    card.hidden = (narrowed && shown === 0) || !card.dataset.find.toLowerCase().includes(find);
    pages += !card.hidden;
    tests += card.hidden ? 0 : shown;
  }
  field("count").textContent = `${pages} pages, ${tests} tests`;
}

field("filters").hidden = false;
for (const filter of filters) filter.addEventListener("input", apply);
apply();
