// What is loaded on demand: data/<name>.js calls take(name, packed). A file is asked for by its name alone.
const RUN = JSON.parse(by("run").textContent);
const VISIT = { step: 0, page: 1, set: 2, samples: 3, reward: 4, truth: 5, best: 6, spread: 7, split: 8, against: 9, ordered: 10 };
const NAME = /^(s\d{6}|e\d{6,}_\d+|p\d{5,}|s\d{7,}|now)$/;
const trusted = window.trustedTypes
  ? window.trustedTypes.createPolicy("data", { createScriptURL: (url) => { if (!/^data\/[a-z0-9_]+\.js$/.test(url)) throw new TypeError(url); return url; } })
  : { createScriptURL: (url) => url };
const LOADED = new Map(); // name -> promise; the oldest goes
const waiting = new Map();
const MOST = 60;

window.take = async (name, packed) => {
  const answer = waiting.get(name);
  waiting.delete(name);
  if (!answer) return;
  try {
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    answer.resolve(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).json());
  } catch (error) {
    answer.reject(error);
  }
};

function fetched(name) {
  return new Promise((resolve, reject) => {
    if (!NAME.test(name)) throw new Error(`no data file has the name ${name}`);
    waiting.set(name, { resolve, reject });
    const script = document.createElement("script");
    script.src = trusted.createScriptURL(`data/${name}.js`);
    script.onload = () => script.remove();
    script.onerror = () => { script.remove(); waiting.delete(name); reject(new Error(`data/${name}.js is not there`)); };
    document.head.append(script);
  });
}

function load(name) {
  let promise = LOADED.get(name);
  if (!promise) {
    promise = fetched(name);
    promise.catch(() => LOADED.delete(name));
  }
  LOADED.delete(name);
  LOADED.set(name, promise);
  if (LOADED.size > MOST) LOADED.delete(LOADED.keys().next().value);
  return promise;
}

const padded = (n, width) => String(n).padStart(width, "0");
const fileOf = (step, set) => (RUN.sets[set] ? `e${padded(step, 6)}_${set}` : `s${padded(step, 6)}`);
const loadPage = (page) => load(`p${padded(page, 5)}`);

async function loadGroup(visit) {
  const content = await load(fileOf(visit[VISIT.step], visit[VISIT.set]));
  return content.groups.find((group) => group.page === visit[VISIT.page]);
}

// Visits by step and by page, in order.
const LEARNING = RUN.visits.filter((visit) => !RUN.sets[visit[VISIT.set]]);
const STEPS = [...new Set(LEARNING.map((visit) => visit[VISIT.step]))].sort((a, b) => a - b);
const visitsOf = (page, set) => RUN.visits.filter((v) => v[VISIT.page] === page && v[VISIT.set] === set).sort((a, b) => a[VISIT.step] - b[VISIT.step]);
const visitsAt = (step, set) => RUN.visits.filter((v) => v[VISIT.step] === step && v[VISIT.set] === set);
const linkTo = (visit, sample) => `#${visit[VISIT.step]}${RUN.sets[visit[VISIT.set]] ? "@" + encodeURIComponent(RUN.sets[visit[VISIT.set]]) : ""}/${encodeURIComponent(RUN.pages[visit[VISIT.page]])}${sample === undefined ? "" : "/" + (sample + 1)}`;
