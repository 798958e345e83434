// The run as a whole: facts, curves, the strip, and what became of its pages and tests.
const LISTED = 8; // rows of a list before it is opened further

function pageLink(page, set, step) {
  const visit = RUN.visits.find((v) => v[VISIT.page] === page && v[VISIT.set] === set && v[VISIT.step] === step);
  return el("a", { href: visit ? linkTo(visit) : "#" }, RUN.pages[page]);
}

function bar(before, after) {
  const low = Math.min(before, after);
  const style = { "--from": `${100 * low}%`, "--wide": `${100 * Math.abs(after - before)}%` };
  return el("span", { class: after < before ? "change loss" : "change gain", style, "aria-hidden": "true" }, el("i"));
}

function listOf(title, list, explain, row) {
  const rows = list.rows.map((of) => el("tr", {}, row(of)));
  if (!rows.length) return el("div", { class: "list empty" }, el("h3", {}, title), el("p", {}, "none"));
  const body = el("tbody", {}, rows.slice(0, LISTED));
  const rest = rows.length - LISTED;
  const more = rest > 0 ? el("button", { type: "button", class: "more", onclick: () => { body.append(...rows.slice(LISTED)); more.remove(); } }, `${rest} more${list.all > rows.length ? ` of ${list.all - LISTED}` : ""}`) : null;
  return el("div", { class: "list" }, el("h3", {}, title, el("small", {}, ` ${list.all}`)), el("p", {}, explain), el("table", {}, body), more);
}

const setName = (set) => (RUN.sets[set] ? el("small", {}, ` ${RUN.sets[set]}`) : null);
const pageRow = ([page, set, , , before, after, visits, step]) => [
  el("td", { class: "once" }, pageLink(page, set, step), setName(set)), el("td", { class: "number" }, `${percent(before)} → ${percent(after)}`), el("td", { class: "wide" }, bar(before, after)), el("td", { class: "number soft" }, `${visits}×`)];
const testRow = ([page, set, test, type, before, after, , step]) => [
  el("td", {}, el("span", { class: "name" }, el("span", { class: "type" }, type), el("span", { class: "clip", title: test }, test.length > 18 ? `…${test.slice(-14)}` : test))), el("td", { class: "once" }, pageLink(page, set, step), setName(set)), el("td", { class: "number" }, `${percent(before)} → ${percent(after)}`)];

function shares(split, whole, none) {
  return el("span", { class: "shares", title: `siblings disagree ${percent(split)}, all pass ${percent(whole)}, none passes ${percent(none)}` },
    el("i", { class: "split", style: { width: `${100 * split}%` } }), el("i", { class: "whole", style: { width: `${100 * whole}%` } }), el("i", { class: "none", style: { width: `${100 * none}%` } }));
}

function typesView() {
  const rows = RUN.findings.types;
  if (!rows.length) return null;
  const thirds = ["first third", "middle", "last third"];
  const names = (n) => (n === 3 ? thirds : Array.from({ length: n }, (_, k) => `part ${k + 1}`));
  return el("div", { class: "list span" }, el("h3", {}, "What each test type teaches"),
    el("p", {}, "A test teaches where some siblings pass it and some fail. ", el("i", { class: "dot split" }), "siblings disagree ", el("i", { class: "dot whole" }), "all pass ", el("i", { class: "dot none" }), "none passes"),
    el("table", { class: "types" }, el("thead", {}, el("tr", {}, el("th", {}, "type"), names(rows[0].split.length).map((name) => el("th", {}, name)), el("th", {}, "in the end"))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", {}, row.type, el("small", {}, ` ${row.tests}`)),
        row.split.map((split, k) => el("td", {}, shares(split, row.whole[k], row.none[k]))),
        el("td", { class: row.stopped ? "stopped" : "soft" }, row.stopped ? `${row.ever ? "teaches no more" : "never taught"}: ${row.stopped}` : `disagree on ${percent(row.split[row.split.length - 1])}`))))));
}

function partingsView() {
  const rows = RUN.findings.partings;
  const measured = (on) => (on ? `held-out ${on}` : "the samples' own tests");
  return el("div", { class: "list" }, el("h3", {}, "Reward rose, truth did not", el("small", {}, ` ${rows.length}`)),
    el("p", {}, "Steps whose mean reward is clearly above that of the steps before, while no more tests pass."),
    rows.length ? el("table", {}, el("tbody", {}, rows.map((row) => el("tr", {},
      el("td", {}, el("a", { href: `#${row.first}` }, `steps ${row.first}–${row.last}`)), el("td", { class: "number" }, `reward ${fixed(row.reward[0])} → ${fixed(row.reward[1])}`),
      el("td", { class: "number loss" }, `${percent(row.truth[0])} → ${percent(row.truth[1])}`), el("td", { class: "soft" }, measured(row.measured)))))) : el("p", { class: "none" }, "none"));
}

function findingsView() {
  const of = RUN.findings;
  if (!RUN.visits.length) return null;
  const halves = "First half of a page's visits against the last.";
  return el("section", {}, el("h2", {}, "What became of pages and tests"),
    el("div", { class: "lists" },
      listOf("Pages that got worse", of.pages_worse, `${halves} ${many(of.compared, "page")} came again.`, pageRow),
      listOf("Pages that got better", of.pages_better, halves, pageRow),
      partingsView(),
      listOf("Tests forgotten", of.tests_forgotten, "Passed by at least 75 % at first, by at most 25 % in the end.", testRow),
      listOf("Tests learnt", of.tests_learnt, "Passed by at most 25 % at first, by at least 75 % in the end.", testRow),
      listOf("Tests that nobody passed", of.tests_never, "No sample at any visit: too hard, or the test is wrong.", testRow),
      listOf("Pages never read", of.pages_never, "Their best sample ever passes less than half of the tests.", ([page, set, , , , best, visits, step]) => [el("td", {}, pageLink(page, set, step), setName(set)), el("td", { class: "number" }, `best ${percent(best)}`), el("td", { class: "number soft" }, `${visits}×`)]),
    ),
    typesView());
}

function headView() {
  const done = RUN.total ? Math.min(1, RUN.done / RUN.total) : 0;
  return el("section", { class: "head" },
    el("h1", {}, RUN.run),
    el("p", { class: "state" }, el("span", { class: "progress", style: { "--done": `${100 * done}%` }, "aria-hidden": "true" }), RUN.state),
    el("dl", {}, Object.entries(RUN.facts).map(([name, fact]) => el("div", {}, el("dt", {}, name), el("dd", {}, fact)))),
    RUN.holds ? el("p", { class: "holds" }, RUN.holds) : null,
    RUN.tripwires.length ? el("ul", { class: "wires" }, RUN.tripwires.slice(-6).map(([step, why]) => el("li", {}, el("a", { href: `#${step}` }, `step ${step}`), " ", why))) : null,
    RUN.notes.length ? el("details", { class: "notes", open: RUN.notes.length < 3 }, el("summary", {}, many(RUN.notes.length, "note")), el("ul", {}, RUN.notes.slice(0, 50).map((note) => el("li", {}, note)))) : null);
}

function showRun() {
  document.title = RUN.run;
  by("view").replaceChildren(...[headView(), curvesView(), stripView(), findingsView()].filter(Boolean));
  if (strip.draw) strip.draw();
  document.body.dataset.state = "run";
  document.body.dataset.ms = Math.round(performance.now());
}
