// Numbers and times as people read them, and elements whose text is only ever text.

export function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en");

export function count(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return "–";
  return Math.abs(n) < 100000 ? whole.format(Math.abs(n) < 10 && n % 1 ? Number(n.toFixed(1)) : Math.round(n)) : short.format(n);
}

export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const s = Math.abs(seconds);
  if (s < 1) return `${(seconds * 1e3).toFixed(s < 0.01 ? 1 : 0)} ms`;
  if (s < 90) return `${seconds.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 5400) return `${Math.round(seconds / 60)} min`;
  if (s < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

export function figure(x) {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const a = Math.abs(x);
  if (a !== 0 && (a < 1e-3 || a >= 1e6)) return x.toExponential(2);
  return x.toFixed(a >= 1000 ? 0 : a >= 100 ? 1 : a >= 10 ? 2 : 3);
}

export const percent = (p) => (p === null || p === undefined ? "–" : `${(100 * p).toFixed(p > 0.9995 || p < 0.1 ? 1 : 0)} %`);

// A stream's time: a date where it counts seconds since 1970, else seconds.
export function moment(t, digits = 1) {
  if (t === null || t === undefined || !Number.isFinite(t)) return "–";
  if (t < 1e8 || t > 1e11) return `${t.toFixed(digits)} s`;
  return new Date(1000 * t).toISOString().slice(11, digits > 1 ? 23 : 19);
}

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Colours of classes: told apart by most eyes, on light and dark ground. Words stand beside them.
const CLASSES = ["#2f7ebc", "#d97b29", "#3a9a5c", "#9b5fc0", "#c2504f", "#1f9d9d", "#8a6d3b", "#c45a9c", "#6b7f94", "#98931f"];
const known = new Map();
export function classColour(label) {
  if (!known.has(label)) known.set(label, CLASSES[known.size % CLASSES.length]);
  return known.get(label);
}
