// A transcript's text: tokens coloured by a figure, and words that differ from another text.
const NATS = 0.05;
const bytesOf = (packed) => { try { return typeof packed === "string" ? Uint8Array.from(atob(packed), (c) => c.charCodeAt(0)) : null; } catch { return null; } };
const READ = {
  sampler: (code) => -NATS * code,
  entropy: (code) => NATS * code,
  gap: (code) => (code & 127 ? (code > 127 ? -1 : 1) * 1e-6 * 10 ** ((code & 127) / 18) : 0),
};

// [{ text, sampler, gap, entropy, advantage }] of a sample, or null where the run kept no tokens.
function tokensOf(sample) {
  const trace = sample.trace || {};
  const packed = bytesOf(trace.chars);
  if (!packed) return null;
  const lengths = [];
  let carried = 0;
  for (const byte of packed) {
    if (byte === 255) carried += 255;
    else { lengths.push(carried + byte); carried = 0; }
  }
  const letters = Array.from(sample.text);
  const figures = Object.entries(READ).map(([name, read]) => [name, read, bytesOf(trace[name])]).filter(([, , codes]) => codes && codes.length === lengths.length);
  let at = 0;
  return lengths.map((length, k) => {
    const token = { text: letters.slice(at, at + length).join(""), advantage: sample.token_advantages ? sample.token_advantages[k] : sample.advantage };
    at += length;
    for (const [name, read, codes] of figures) token[name] = read(codes[k]);
    return token;
  });
}

const SURPRISE = [214, 158, 0];
const OPEN = [142, 68, 203];
const MODES = {
  difference: { name: "differences", legend: "underlined: only here; struck through: only in the other text" },
  advantage: { name: "advantage", of: (t) => t.advantage, color: (v, top) => balance(v, top), say: (v) => `advantage ${signed(v)}`, legend: "blue: to be written more often, orange: less" },
  surprise: { name: "surprise", of: (t) => t.sampler, color: (v) => toned(SURPRISE, -v / 5), say: (v) => `log-probability ${fixed(v)} nats, ${percent(Math.exp(v))}`, legend: "the deeper, the less likely the token was when it was sampled (5 nats and more: deepest)" },
  entropy: { name: "entropy", of: (t) => t.entropy, color: (v) => toned(OPEN, v / 2.5), say: (v) => `entropy ${fixed(v)} nats`, legend: "the deeper, the more open the choice was to the learner" },
  gap: { name: "gap", of: (t) => t.gap, color: (v) => (v ? balance(Math.sign(v) * Math.max(0, (Math.log10(Math.abs(v)) + 6) / 6), 1) : "transparent"), say: (v) => `learner less sampler ${v ? v.toExponential(1) : "below 1e-6"} nats`, legend: "learner less sampler on a logarithmic scale from 1e-6 to 1 nat; blue: the learner finds the token likelier" },
  plain: { name: "plain", legend: "" },
};

const spread = (tokens, mode) => tokens && mode.of && tokens.some((token) => isNumber(mode.of(token)));
const modesFor = (tokens) => Object.keys(MODES).filter((key) => !MODES[key].of || spread(tokens, MODES[key]));

// The text as nodes, a token a span; `say` is told the token under the pointer.
function coloured(sample, tokens, mode, say) {
  if (!tokens || !mode.of) return [visible(sample.text)];
  const top = Math.max(1e-9, ...tokens.map((token) => Math.abs(mode.of(token) ?? 0)));
  const nodes = [];
  let used = 0;
  for (const token of tokens) {
    used += token.text.length;
    if (!token.text) continue;
    const value = mode.of(token);
    const color = isNumber(value) ? mode.color(value, top) : "transparent";
    const span = el("span", { class: "token" }, token.text);
    if (color !== "transparent") span.style.setProperty("background-color", color);
    if (isNumber(value)) {
      const show = () => say(`${JSON.stringify(token.text)}  ${mode.say(value)}${mode === MODES.advantage && isNumber(token.sampler) ? `, ${MODES.surprise.say(token.sampler)}` : ""}`);
      span.addEventListener("pointerenter", show);
      span.addEventListener("click", show);
    }
    nodes.push(span);
  }
  const rest = sample.text.slice(used);
  return rest ? [...nodes, visible(rest)] : nodes;
}

const WORD = /(<[^<>]{0,200}>|[\p{L}\p{N}_]+|[^\p{L}\p{N}_\s])(\s*)/gu;
const MOST_EDITS = 1500; // beyond it the middle is shown as replaced

// Runs ["same" | "extra" | "missing", text] of `read` against `other`, by words; the shortest edit script (Myers 1986).
function differences(other, read) {
  const [a, b] = [[...other.matchAll(WORD)], [...read.matchAll(WORD)]];
  const same = (i, j) => a[i][1] === b[j][1];
  let start = 0;
  while (start < a.length && start < b.length && same(start, start)) start += 1;
  let [n, m] = [a.length, b.length];
  while (n > start && m > start && same(n - 1, m - 1)) { n -= 1; m -= 1; }
  const joined = (words) => words.map((word) => word[0]).join("");
  const runs = [["same", joined(b.slice(0, start))]];
  for (const [kind, from, to] of script(n - start, m - start, (i, j) => same(start + i, start + j))) {
    runs.push([kind, joined((kind === "missing" ? a : b).slice(start + from, start + to))]);
  }
  runs.push(["same", joined(b.slice(m))]);
  return runs.flatMap(framed).filter(([, text]) => text);
}

// White space is never marked: it belongs to the words before it, and is not compared.
function framed([kind, text]) {
  if (kind === "same") return [[kind, text]];
  if (kind === "missing") return [[kind, text.split(/\s+/).join(" ").trim()]];
  return [[kind, text.trimEnd()], ["same", text.slice(text.trimEnd().length)]];
}

// Edits [kind, from, to] that lead from n words to m words.
function script(n, m, same) {
  const trail = [];
  let ends = new Map([[1, 0]]);
  const most = Math.min(n + m, MOST_EDITS);
  for (let d = 0; d <= most; d += 1) {
    trail.push(new Map(ends));
    for (let k = -d; k <= d; k += 2) {
      let x = k === -d || (k !== d && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1)) ? ends.get(k + 1) ?? 0 : (ends.get(k - 1) ?? -1) + 1;
      while (x < n && x - k < m && same(x, x - k)) x += 1;
      ends.set(k, x);
      if (x >= n && x - k >= m) return backward(trail, n, m, d);
    }
    if (d > 400 && trail.length * ends.size > 2e6) break;
  }
  return [...(n ? [["missing", 0, n]] : []), ...(m ? [["extra", 0, m]] : [])];
}

function backward(trail, n, m, last) {
  const steps = [];
  let [x, y] = [n, m];
  for (let d = last; d >= 0; d -= 1) {
    const ends = trail[d];
    const k = x - y;
    const inserted = k === -d || (k !== d && (ends.get(k - 1) ?? -1) < (ends.get(k + 1) ?? -1));
    const from = inserted ? k + 1 : k - 1;
    const [px, py] = d ? [ends.get(from), ends.get(from) - from] : [0, 0];
    while (x > px && y > py) { x -= 1; y -= 1; steps.push(["same", x, y]); }
    if (d) steps.push(inserted ? ["extra", px, py] : ["missing", px, py]);
    [x, y] = [px, py];
  }
  const runs = [];
  for (const [kind, i, j] of steps.reverse()) {
    const [from, to] = kind === "missing" ? [i, i + 1] : [j, j + 1];
    const before = runs[runs.length - 1];
    if (before && before[0] === kind && before[2] === from) before[2] = to;
    else runs.push([kind, from, to]);
  }
  return runs;
}

function marked(other, read) {
  return differences(other, read).map(([kind, text]) => (kind === "same" ? visible(text) : el(kind === "extra" ? "ins" : "del", {}, text)));
}
