// Small parts: elements whose texts are text nodes, numbers as people read them, colours.
const by = (id) => document.getElementById(id);

function put(node, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name === "class") node.setAttribute("class", value);
  else if (name === "style") for (const [key, of] of Object.entries(value)) node.style.setProperty(key, of);
  else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
  else node.setAttribute(name, value === true ? "" : String(value));
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) put(node, name, value);
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child instanceof Node ? child : visible(String(child)));
  }
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// What hides, reorders or breaks what stands beside it is shown by its code.
const DISTURBING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/gu;
const visible = (text) => text.replace(DISTURBING, (c) => `⟨U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (value) => (isNumber(value) ? `${(100 * value).toFixed(0)} %` : "–");
const fixed = (value, digits = 2) => (isNumber(value) ? value.toFixed(digits) : "–");
const signed = (value, digits = 2) => (isNumber(value) ? (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits) : "–");
const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(0)}`;
const many = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

function amount(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

// Viridis at five places, the same on light and dark ground.
const HEAT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
function heat(share) {
  const at = Math.min(1, Math.max(0, share)) * (HEAT.length - 1);
  const k = Math.min(HEAT.length - 2, Math.floor(at));
  return HEAT[k].map((low, i) => Math.round(low + (at - k) * (HEAT[k + 1][i] - low)));
}
const rgb = (color, alpha = 1) => `rgb(${color.join(" ")} / ${alpha})`;
const inkOn = (color) => (0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] > 140 ? "#101214" : "#ffffff");
const GAIN = [30, 136, 229];
const LOSS = [230, 106, 20];
const toned = (color, strength) => rgb(color, Math.min(0.75, Math.max(0, strength)).toFixed(3));
// Blue above zero, orange below; `full` is where the colour is deepest.
const balance = (value, full) => (isNumber(value) && value !== 0 ? toned(value > 0 ? GAIN : LOSS, 0.1 + (0.65 * Math.min(Math.abs(value), full)) / full) : "transparent");
