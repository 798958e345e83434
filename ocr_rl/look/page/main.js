// The address decides what is shown: # the run, #120/<page>/<sample> a group, #120@<set>/<page> a held-out page.
let here = null; // the visit that is shown

function failed(sentence) {
  by("view").replaceChildren(el("p", { class: "loss", role: "alert" }, sentence));
  document.body.dataset.state = "failed";
}

function decoded(text) { try { return decodeURIComponent(text); } catch { return text; } }

function visitAt(address) {
  const [place, id, sample] = address.split("/").map(decoded);
  const [step, name = ""] = [place.split("@")[0], place.includes("@") ? place.slice(place.indexOf("@") + 1) : ""];
  const set = RUN.sets.indexOf(name);
  const at = visitsAt(Number(step), set);
  if (id === undefined) return { visit: at[0], k: null };
  const page = RUN.pages.indexOf(id);
  return { visit: at.find((visit) => visit[VISIT.page] === page), k: sample === undefined ? null : Number(sample) - 1 };
}

function openStep(step) {
  if (!STEPS.length) return;
  const near = STEPS.reduce((best, of) => (Math.abs(of - step) < Math.abs(best - step) ? of : best));
  location.hash = linkTo(visitsAt(near, RUN.sets.indexOf(""))[0]);
}

function wayView() {
  if (!here) return by("way").replaceChildren();
  const turnTo = (visit, text, label) => (visit ? el("a", { href: linkTo(visit), "aria-label": label, title: label }, text) : el("span", { class: "soft" }, text));
  const [same, step] = [visitsOf(here[VISIT.page], here[VISIT.set]), visitsAt(here[VISIT.step], here[VISIT.set])];
  const [i, j] = [same.indexOf(here), step.indexOf(here)];
  by("way").replaceChildren(
    el("span", { class: "turn" }, turnTo(same[i - 1], "‹", "this page at the step before  ["), el("b", {}, `step ${here[VISIT.step]}`), el("small", {}, ` ${i + 1} of ${same.length}`), turnTo(same[i + 1], "›", "this page at the next step  ]")),
    el("span", { class: "turn" }, turnTo(step[j - 1], "‹", "page before  ↑"), el("b", {}, RUN.pages[here[VISIT.page]]), RUN.sets[here[VISIT.set]] ? el("small", {}, ` ${RUN.sets[here[VISIT.set]]}`) : null, el("small", {}, ` ${j + 1} of ${step.length}`), turnTo(step[j + 1], "›", "next page  ↓")));
}

function route() {
  const address = location.hash.slice(1);
  turn += 1;
  if (!address) {
    here = null;
    wayView();
    return showRun();
  }
  const { visit, k } = visitAt(address);
  here = visit || null;
  wayView();
  if (!visit) return failed("The run has no such step or page.");
  window.scrollTo(0, 0);
  return showGroup(visit, k);
}

function go(visit) { if (visit) location.hash = linkTo(visit); }

const KEYS = {
  ArrowLeft: () => (here ? shown.move(-1) : strip.move && strip.move(-1, 0)),
  ArrowRight: () => (here ? shown.move(1) : strip.move && strip.move(1, 0)),
  ArrowUp: () => (here ? go(visitsAt(here[VISIT.step], here[VISIT.set])[visitsAt(here[VISIT.step], here[VISIT.set]).indexOf(here) - 1]) : strip.move && strip.move(0, -1)),
  ArrowDown: () => (here ? go(visitsAt(here[VISIT.step], here[VISIT.set])[visitsAt(here[VISIT.step], here[VISIT.set]).indexOf(here) + 1]) : strip.move && strip.move(0, 1)),
  "[": () => here && go(visitsOf(here[VISIT.page], here[VISIT.set])[visitsOf(here[VISIT.page], here[VISIT.set]).indexOf(here) - 1]),
  "]": () => here && go(visitsOf(here[VISIT.page], here[VISIT.set])[visitsOf(here[VISIT.page], here[VISIT.set]).indexOf(here) + 1]),
  c: () => here && shown.cycle && shown.cycle(),
  Enter: () => !here && strip.open && strip.open(),
  Escape: () => { location.hash = ""; },
  "/": () => by("search").focus(),
  "?": () => by("help").click(),
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (typing && event.key === "Escape") typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  const vertical = event.key === "ArrowUp" || event.key === "ArrowDown";
  if (vertical && !here && document.activeElement.tagName !== "CANVAS") return; // the page scrolls
  if (document.body.dataset.state === "loading") return;
  event.preventDefault();
  KEYS[event.key]();
});

by("home").textContent = RUN.run;
by("ids").replaceChildren(...RUN.pages.slice(0, 2000).map((id) => el("option", { value: id })));
by("search").addEventListener("change", () => {
  const wanted = by("search").value.trim().toLowerCase();
  if (!wanted) return;
  const page = RUN.pages.findIndex((id) => id.toLowerCase() === wanted);
  const near = page >= 0 ? page : RUN.pages.findIndex((id) => id.toLowerCase().includes(wanted));
  const visits = RUN.visits.filter((visit) => visit[VISIT.page] === near);
  by("search").setCustomValidity(visits.length ? "" : "no page has such an id");
  by("search").reportValidity();
  if (visits.length) { by("search").value = ""; by("search").blur(); go(visits[visits.length - 1]); }
});
by("search").addEventListener("input", () => by("search").setCustomValidity(""));
by("help").addEventListener("click", () => {
  by("keys").hidden = !by("keys").hidden;
  by("help").setAttribute("aria-expanded", !by("keys").hidden);
});
window.addEventListener("hashchange", route);
window.addEventListener("resize", () => { if (!here && strip.draw) strip.draw(); });

// A page of a run under way asks whether there are new steps, and comes again with them; a group that is read stays.
async function watchForMore() {
  LOADED.delete("now");
  try {
    const now = await load("now");
    if (now.turn === RUN.turn) return;
    if (here) by("home").textContent = `${RUN.run}: new steps`;
    else location.reload();
  } catch { /* the server has ended: the page stays as it is */ }
}
if (document.documentElement.dataset.live !== undefined) setInterval(watchForMore, 3000);
route();
