// One test at a time; #<number> in the address leads back to it. Whatever comes from the dataset is set as text.
"use strict";
const by = (id) => document.getElementById(id);
const HIDDEN = new Set(["id", "pdf", "page", "type", "url", "checked"]);
const DONE = { keep: "kept", drop: "dropped", edit: "edited", open: "not decided" };
const QUESTIONS = {
  present: "Does this text stand on the page?",
  absent: "Is this text left out of a good transcript, as a page number is?",
  order: "Is the text “before” read before the text “after”?",
  format: "Does this text stand on the page in this format?",
  table: "Do this cell and its neighbours stand in a table of the page?",
  math: "Does this formula stand on the page?",
  footnote: "Does this marker stand between these texts?",
  baseline: "Is this true of the page as a whole?",
};
let tests = [];
let here = 0;

async function asked(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "X-Ocr-Rl": "1" } };
  const answer = await fetch(path, options).catch(() => { throw new Error("The command is not running any more."); });
  const content = await answer.json().catch(() => ({ error: "The server gave no answer." }));
  if (!answer.ok) throw new Error(content.error || "The server gave no answer.");
  return content;
}

function say(id, sentence) {
  by(id).textContent = sentence;
  by(id).hidden = !sentence;
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

function figures(item) {
  const shown = [`${item.test.type} test`, `${item.test.pdf}, page ${item.test.page}`, item.place];
  const given = item.figures;
  if (typeof given.suspicion === "number") shown.push(`suspicion ${given.suspicion.toFixed(2)}`);
  for (const name of ["failing", "agreement", "standing"]) {
    if (typeof given[name] === "number") shown.push(`${name} ${Math.round(100 * given[name])} %`);
  }
  return shown.join(" · ");
}

function count() {
  const decided = tests.filter((item) => item.decision !== "open").length;
  by("count").textContent = `${decided} of ${tests.length} decided`;
}

function show(k) {
  here = Math.min(Math.max(k, 0), tests.length - 1);
  history.replaceState(null, "", `#${here + 1}`);
  const item = tests[here];
  const test = item.edited || item.test;
  closeEditor();
  say("error", "");
  by("place").textContent = `${here + 1} / ${tests.length}`;
  by("before").disabled = here === 0;
  by("after").disabled = here === tests.length - 1;
  by("image").src = `${here}.png`;
  by("question").textContent = QUESTIONS[test.type] || "";
  by("facts").textContent = `${figures(item)} · ${DONE[item.decision]}`;
  const shown = Object.entries(test).filter(([name]) => !HIDDEN.has(name));
  by("test").replaceChildren(...shown.flatMap(([name, value]) => [
    element("dt", name),
    element("dd", typeof value === "string" ? value : JSON.stringify(value)),
  ]));
  const readings = Array.isArray(item.figures.readings) ? item.figures.readings : [];
  by("says").hidden = !readings.length;
  by("against").textContent = item.figures.against ? `Most agree: ${item.figures.against}` : "";
  by("readings").replaceChildren(...readings.map(([text, times]) =>
    text ? element("li", `${times} × ${text}`) : element("li", `${times} × nothing like it`, "faint")));
  for (const what of ["keep", "drop", "edit"]) by(what).setAttribute("aria-pressed", String(item.decision === what));
  document.body.dataset.test = String(here);
  count();
}

async function decide(what, text) {
  const k = here;
  say("error", "");
  say("written", "");
  try {
    tests[k] = await asked(`tests/${k}`, { what, text });
    const next = [...tests.keys()].map((n) => (k + 1 + n) % tests.length).find((n) => tests[n].decision === "open");
    show(next === undefined ? k : next);
  } catch (error) {
    say("error", error.message);
  }
}

function openEditor() {
  const item = tests[here];
  by("editor").hidden = false;
  by("json").value = JSON.stringify(item.edited || item.test, null, 2);
  by("json").focus();
}

function closeEditor() {
  by("editor").hidden = true;
  by("json").blur();
}

async function write() {
  say("error", "");
  say("written", "");
  try {
    say("written", (await asked("write", {})).written);
  } catch (error) {
    say("error", error.message);
  }
}

const KEYS = { k: () => decide("keep"), d: () => decide("drop"), e: openEditor, ArrowLeft: () => show(here - 1), ArrowRight: () => show(here + 1) };
document.addEventListener("keydown", (event) => {
  if (event.target === by("json")) {
    if (event.key === "Escape") closeEditor();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) decide("edit", by("json").value);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !tests.length || !(event.key in KEYS)) return;
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) KEYS[event.key](); // a key held down decides once
});
by("keep").addEventListener("click", () => decide("keep"));
by("drop").addEventListener("click", () => decide("drop"));
by("edit").addEventListener("click", openEditor);
by("save").addEventListener("click", () => decide("edit", by("json").value));
by("leave").addEventListener("click", closeEditor);
by("before").addEventListener("click", () => show(here - 1));
by("after").addEventListener("click", () => show(here + 1));
by("write").addEventListener("click", write);
by("image").addEventListener("error", () => say("error", "This page cannot be drawn."));

asked("tests").then((content) => {
  tests = content.tests;
  by("data").textContent = content.data;
  const named = /^#(\d{1,8})$/.exec(location.hash);
  const open = tests.findIndex((item) => item.decision === "open");
  show(named ? Number(named[1]) - 1 : Math.max(open, 0));
}, (error) => say("error", error.message));
