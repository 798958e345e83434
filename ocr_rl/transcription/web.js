// One document at a time; #<id>/<page> in the address leads back to it. Text of a policy is set as text, never as HTML.
"use strict";
const by = (id) => document.getElementById(id);
let here = { id: "", pages: 0, page: 1 };
let turn = 0; // answers to questions that were left behind are dropped

async function asked(path, options) {
  const answer = await fetch(path, { ...options, headers: { "X-Ocr-Rl": "1" } });
  const content = await answer.json().catch(() => ({ error: "The server gave no answer." }));
  if (!answer.ok) throw new Error(content.error || "The server gave no answer.");
  return content;
}

function say(sentence) {
  by("error").textContent = sentence;
  by("error").hidden = !sentence;
}

function facts(read) {
  const parts = [`${read.tokens} tokens`, `${read.seconds} s`];
  if (read.attempts > 1) parts.push(`${read.attempts} attempts`);
  if (read.rotation) parts.push(`turned by ${read.rotation}°`);
  if (!read.ended) parts.push("cut off");
  if (read.tests.length) parts.push(`${read.tests.filter((test) => test.passed).length} of ${read.tests.length} tests passed`);
  return parts.join(" · ");
}

function show(read) {
  by("facts").textContent = facts(read);
  by("shown").srcdoc = read.shown;
  by("written").textContent = read.text;
  by("tests").replaceChildren(...read.tests.map((test) => {
    const item = document.createElement("li");
    item.className = test.passed ? "" : "failed";
    item.textContent = `${test.type} ${test.id}${test.why ? ": " + test.why : ""}`;
    return item;
  }));
  document.body.dataset.state = "read";
}

async function open(page) {
  here.page = page;
  const mine = ++turn;
  say("");
  history.replaceState(null, "", `#${here.id}/${page}`);
  by("hint").hidden = true;
  for (const id of ["left", "right", "turn"]) by(id).hidden = false;
  by("place").textContent = `${page} / ${here.pages}`;
  by("before").disabled = page <= 1;
  by("after").disabled = page >= here.pages;
  by("image").src = `/documents/${here.id}/${page}.png`;
  by("facts").textContent = "reading …";
  by("shown").srcdoc = "";
  by("written").textContent = "";
  by("tests").replaceChildren();
  document.body.dataset.state = "reading";
  try {
    const read = await asked(`/documents/${here.id}/${page}`, { method: "POST" });
    if (mine === turn) show(read);
  } catch (error) {
    if (mine !== turn) return;
    by("facts").textContent = "";
    document.body.dataset.state = "failed";
    say(error.message);
  }
}

function begin(content, page) {
  here = { id: content.id, pages: content.pages, page: 1 };
  by("model").textContent = content.model;
  open(Math.min(Math.max(page, 1), content.pages));
}

async function take(file) {
  if (!file) return;
  say("");
  try {
    begin(await asked("/documents", { method: "POST", body: file }), 1);
  } catch (error) {
    say(error.message);
  }
}

function view(which) {
  for (const id of ["shown", "written"]) {
    by(id).hidden = id !== which;
    by(`as-${id}`).setAttribute("aria-pressed", String(id === which));
  }
}

by("file").addEventListener("change", (event) => take(event.target.files[0]));
by("before").addEventListener("click", () => open(here.page - 1));
by("after").addEventListener("click", () => open(here.page + 1));
by("as-shown").addEventListener("click", () => view("shown"));
by("as-written").addEventListener("click", () => view("written"));
for (const name of ["dragover", "dragleave", "drop"]) {
  window.addEventListener(name, (event) => {
    event.preventDefault();
    by("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
const named = /^#([0-9a-f]{32})(?:\/(\d{1,5}))?$/.exec(location.hash);
if (named) asked(`/documents/${named[1]}`).then((content) => begin(content, Number(named[2] || 1)), (error) => say(error.message));
