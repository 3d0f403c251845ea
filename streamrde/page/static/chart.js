// The chart of one stream: a lane per channel, then predictions, truth and novelty, above one axis of time.
import { Drawn } from "./drawn.js";
import { classColour, colour, figure, moment, percent } from "./words.js";

const MOST = 8000; // samples that are kept
const WINDOWS = 16; // windows in sight
const LEFT = 86;
const RIGHT = 62;
const LINES = ["#2f7ebc", "#d97b29", "#3a9a5c", "#9b5fc0", "#c2504f", "#1f9d9d"];

export class Chart extends Drawn {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.clear();
    new ResizeObserver(() => this.soon()).observe(canvas.parentElement);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.soon());
    canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
    canvas.addEventListener("pointerleave", () => this.point(null));
  }

  clear() {
    Object.assign(this, { channels: [], t: [], x: [], windows: [], open: null, unused: [], labels: [], right: null, pointer: null, ranges: new Map() });
  }

  point(x) {
    this.pointer = x;
    this.soon();
  }

  take(part) {
    if (part.channels) {
      // The first message of a connection has all that is kept.
      const channels = part.channels;
      this.clear();
      this.channels = channels;
      this.x = channels.map(() => []);
    }
    if (part.t) {
      for (const t of part.t) this.t.push(t);
      part.x.forEach((values, i) => {
        for (const v of values) this.x[i].push(v);
      });
      if (this.t.length > MOST) {
        const skip = this.t.length - MOST * 0.75;
        this.t.splice(0, skip);
        for (const values of this.x) values.splice(0, skip);
      }
    }
    this.windows = this.windows.concat(part.predictions || []).slice(-800);
    if (part.provisional) this.open = part.provisional.at(-1);
    if (part.predictions) this.open = null;
    this.unused = this.unused.concat(part.unused || []).slice(-500);
    this.labels = this.labels.concat(part.labels || []).slice(-500);
    this.soon();
  }

  // The time at the right edge, and how much is in sight. The edge glides, so that batches do not jump.
  view() {
    let latest = -Infinity;
    for (let i = Math.max(0, this.t.length - 64); i < this.t.length; i++) latest = Math.max(latest, this.t[i]);
    const end = this.windows.at(-1);
    if (end) latest = Math.max(latest, end.t_end);
    if (!Number.isFinite(latest)) return null;
    const lengths = this.windows.slice(-9).map((w) => w.t_end - w.t_start).sort((a, b) => a - b);
    const length = lengths.length ? lengths[lengths.length >> 1] : 0;
    const first = this.t.length ? this.t[Math.max(0, this.t.length - 400)] : latest - 10;
    const span = length > 0 ? WINDOWS * length : Math.max(1e-3, latest - first);
    if (this.right === null || this.calm.matches || Math.abs(latest - this.right) > span / 2) this.right = latest;
    else this.right += (latest - this.right) * 0.12;
    if (Math.abs(latest - this.right) > span * 1e-4) this.soon();
    return { begin: this.right - span, end: this.right, latest };
  }

  draw() {
    const view = this.view();
    const lanes = this.lanes();
    const height = lanes.reduce((sum, lane) => sum + lane.height, 0) + 24;
    const width = this.canvas.parentElement.clientWidth;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    const pen = this.pen;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.textBaseline = "middle";
    this.ink = { line: colour("--line"), dim: colour("--dim"), ink: colour("--ink"), tint: colour("--tint"), warn: colour("--warn"), bad: colour("--bad"), accent: colour("--accent") };
    if (!view) return;
    const inside = width - LEFT - RIGHT;
    const at = (t) => LEFT + ((t - view.begin) / (view.end - view.begin)) * inside;
    this.shown = { view, at, inside, width, foot: height - 24, windows: this.windows.filter((w) => w.t_end > view.begin) };
    this.background();
    let top = 0;
    for (const lane of lanes) {
      pen.strokeStyle = this.ink.line;
      pen.lineWidth = 1;
      line(pen, 0, top + lane.height - 0.5, width, top + lane.height - 0.5);
      pen.save();
      lane.draw(top, lane.height);
      pen.restore();
      top += lane.height;
    }
    this.axis();
    this.hover();
  }

  lanes() {
    const many = this.channels.length;
    // Few channels share the height that there is, many are scrolled.
    const room = document.getElementById("stream").clientHeight - 330;
    const high = many <= 10 ? Math.max(54, Math.min(104, room / many)) : many <= 16 ? 40 : 30;
    const lanes = this.channels.map((channel, i) => ({ height: high, draw: (top, height) => this.channel(i, top, height) }));
    const latest = this.windows.at(-1);
    if (!latest) return lanes;
    const labels = Object.keys(latest).filter((key) => key.startsWith("label"));
    for (const key of labels) {
      const name = key === "label" ? "prediction" : key.slice(6);
      lanes.push({ height: 32, draw: (top, height) => this.band(name, this.shown.windows, (w) => w[key], (w) => (w.value.length === 1 ? Math.max(w.value[0], 1 - w.value[0]) : Math.max(...w.value)), top, height, labels.length === 1) });
    }
    if (!labels.length) lanes.push({ height: 74, draw: (top, height) => this.values(top, height) });
    if (this.labels.some((row) => !Array.isArray(row.label))) lanes.push({ height: 26, draw: (top, height) => this.truth(top, height) });
    if ("novelty" in latest) lanes.push({ height: 40, draw: (top, height) => this.novelty(top, height) });
    return lanes;
  }

  background() {
    const { view, at, foot, windows } = this.shown;
    const pen = this.pen;
    const last = windows.at(-1);
    if (last && last.t_end < view.end) {
      pen.fillStyle = this.ink.tint;
      const x = Math.max(LEFT, at(last.t_end));
      pen.fillRect(x, 0, at(Math.min(view.end, view.latest)) - x, foot);
    }
    pen.strokeStyle = this.ink.line;
    pen.lineWidth = 1;
    for (const w of windows) if (w.t_end <= view.end) line(pen, Math.round(at(w.t_end)) + 0.5, 0, Math.round(at(w.t_end)) + 0.5, foot);
    pen.fillStyle = this.ink.warn;
    for (const row of this.unused) {
      if (row.t < view.begin || row.t > view.end) continue;
      const x = at(row.t);
      pen.beginPath();
      pen.moveTo(x - 4, foot);
      pen.lineTo(x + 4, foot);
      pen.lineTo(x, foot - 8);
      pen.fill();
    }
  }

  label(name, note, top, height) {
    const pen = this.pen;
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillStyle = this.ink.ink;
    pen.textAlign = "left";
    pen.fillText(cut(pen, name, LEFT - 12), 0, top + height / 2 - (note ? 7 : 0));
    if (note) {
      pen.font = "11px system-ui, sans-serif";
      pen.fillStyle = this.ink.dim;
      pen.fillText(cut(pen, note, LEFT - 12), 0, top + height / 2 + 8);
    }
  }

  right_(text, top, height, fill = this.ink.ink) {
    const pen = this.pen;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.fillStyle = fill;
    pen.fillText(text, this.shown.width, top + height / 2);
  }

  // The range of a lane follows its values, without a jump.
  range(key, low, high) {
    if (!(high > low)) [low, high] = [low - 0.5 * (Math.abs(low) || 1), high + 0.5 * (Math.abs(high) || 1)];
    const before = this.ranges.get(key);
    const soft = before && !this.calm.matches ? [before[0] + (low - before[0]) * 0.15, before[1] + (high - before[1]) * 0.15] : [low, high];
    this.ranges.set(key, [Math.min(soft[0], low), Math.max(soft[1], high)]);
    return this.ranges.get(key);
  }

  channel(i, top, height) {
    const { view, at } = this.shown;
    const [name, unit] = this.channels[i];
    const pen = this.pen;
    const [t, x] = [this.t, this.x[i]];
    let first = t.length;
    while (first > 0 && t[first - 1] >= view.begin) first--;
    let low = Infinity;
    let high = -Infinity;
    for (let k = first; k < t.length; k++) {
      if (x[k] === null) continue;
      low = Math.min(low, x[k]);
      high = Math.max(high, x[k]);
    }
    this.label(name, unit, top, height);
    if (low > high) return this.right_("–", top, height, this.ink.dim);
    const [from, to] = this.range(i, low, high);
    const y = (v) => top + 6 + (1 - (v - from) / (to - from)) * (height - 12);
    pen.beginPath();
    pen.rect(LEFT, top, this.shown.inside, height);
    pen.clip();
    pen.strokeStyle = LINES[i % LINES.length];
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    pen.beginPath();
    let before = null;
    for (let k = Math.max(0, first - 1); k < t.length; k++) {
      if (x[k] === null) continue;
      // A sample that came late does not draw back.
      if (before === null || t[k] < before) pen.moveTo(at(t[k]), y(x[k]));
      else pen.lineTo(at(t[k]), y(x[k]));
      before = t[k];
    }
    pen.stroke();
    pen.fillStyle = this.ink.dim;
    for (let k = first; k < t.length; k++) if (x[k] === null) pen.fillRect(at(t[k]) - 1, top + height - 5, 2, 3);
    const few = t.length - first < 80;
    if (few) {
      pen.fillStyle = LINES[i % LINES.length];
      for (let k = first; k < t.length; k++) {
        if (x[k] === null) continue;
        pen.beginPath();
        pen.arc(at(t[k]), y(x[k]), 2.2, 0, 7);
        pen.fill();
      }
    }
    pen.restore();
    pen.save();
    this.right_(figure(this.under(t, x) ?? null), top, height);
  }

  // The value at the pointer, or the latest.
  under(t, x) {
    let limit = Infinity;
    if (this.pointer !== null) limit = this.time(this.pointer);
    for (let k = t.length - 1; k >= 0; k--) if (x[k] !== null && t[k] <= limit) return x[k];
    return null;
  }

  time(x) {
    const { view, inside } = this.shown;
    return view.begin + ((x - LEFT) / inside) * (view.end - view.begin);
  }

  band(name, windows, label, sure, top, height, alone = false) {
    const { at, width } = this.shown;
    const pen = this.pen;
    this.label(name, "", top, height);
    const last = windows.at(-1);
    if (last && alone) this.right_(percent(sure(last)), top, height);
    pen.beginPath();
    pen.rect(LEFT, top, width - LEFT - RIGHT, height);
    pen.clip();
    // Windows of one label in a row are one block with one word.
    let begin = 0;
    for (let i = 0; i < windows.length; i++) {
      const w = windows[i];
      const text = label(w);
      pen.fillStyle = text === null ? this.ink.bad : classColour(text);
      pen.globalAlpha = text === null ? 1 : 0.25 + 0.75 * Math.max(0, Math.min(1, (sure(w) - 0.3) / 0.7));
      pen.fillRect(at(w.t_start) + 0.5, top + 5, Math.max(1, at(w.t_end) - at(w.t_start) - 1), height - 10);
      pen.globalAlpha = 1;
      const next = windows[i + 1];
      if (next && label(next) === text && next.t_start <= w.t_end + 1e-9) continue;
      const from = Math.max(LEFT, at(windows[begin].t_start));
      const room = Math.min(width - RIGHT, at(w.t_end)) - from - 10;
      pen.font = "600 12px system-ui, sans-serif";
      pen.textAlign = "left";
      const word = cut(pen, text ?? "not finite", room);
      if (word.length > 1) {
        const wide = pen.measureText(word).width;
        pen.fillStyle = "rgba(8, 18, 20, .72)";
        pen.beginPath();
        pen.roundRect(from + 3, top + height / 2 - 8, wide + 8, 16, 4);
        pen.fill();
        pen.fillStyle = "#fff";
        pen.fillText(word, from + 7, top + height / 2 + 0.5);
      }
      begin = i + 1;
    }
  }

  truth(top, height) {
    const { view } = this.shown;
    const blocks = [];
    for (const row of this.labels) {
      if (Array.isArray(row.label)) continue; // numbers are drawn beside the predictions
      const window = row.window !== undefined && row.window !== null ? this.windows.find((w) => w.window === row.window) : null;
      if (window) blocks.push({ ...window, text: String(row.label) });
      else if (row.t !== undefined && row.t !== null) blocks.push({ t_start: row.t, t_end: row.t + (view.end - view.begin) * 0.01, text: String(row.label) });
      else blocks.push({ t_start: Math.max(view.begin, this.t[0] ?? view.begin), t_end: view.latest, text: String(row.label) });
    }
    this.band("truth", blocks.filter((b) => b.t_end > view.begin), (b) => b.text, () => 1, top, height);
  }

  values(top, height) {
    const { at, windows, inside } = this.shown;
    const pen = this.pen;
    if (!windows.length) return this.label("prediction", "", top, height);
    const labelled = this.labels.filter((row) => Array.isArray(row.label)).map((row) => [windows.find((w) => w.window === row.window), row.label]).filter(([w]) => w);
    const all = windows.flatMap((w) => [...w.value, ...[].concat(w.lower ?? [], w.upper ?? [])]).concat(labelled.flatMap(([, label]) => label)).filter(Number.isFinite);
    const [from, to] = this.range("value", Math.min(...all), Math.max(...all));
    const y = (v) => top + 6 + (1 - (v - from) / (to - from)) * (height - 12);
    this.label("prediction", windows[0].value.length > 1 ? `${windows[0].value.length} outputs` : "", top, height);
    this.right_(figure(windows.at(-1).value[0]), top, height);
    pen.beginPath();
    pen.rect(LEFT, top, inside, height);
    pen.clip();
    windows[0].value.forEach((_, i) => {
      pen.fillStyle = LINES[i % LINES.length];
      pen.strokeStyle = LINES[i % LINES.length];
      for (const w of windows) {
        const [low, high] = [[].concat(w.lower ?? [])[i], [].concat(w.upper ?? [])[i]];
        if (low === undefined || low === null || high === null) continue;
        pen.globalAlpha = 0.2;
        pen.fillRect(at(w.t_start), y(high), at(w.t_end) - at(w.t_start), y(low) - y(high));
        pen.globalAlpha = 1;
      }
      pen.lineWidth = 2;
      pen.beginPath();
      for (const w of windows) {
        pen.moveTo(at(w.t_start), y(w.value[i]));
        pen.lineTo(at(w.t_end), y(w.value[i]));
      }
      pen.stroke();
      // A label is a ring at the end of its window.
      pen.lineWidth = 1.6;
      for (const [w, label] of labelled) {
        if (!Number.isFinite(label[i])) continue;
        pen.beginPath();
        pen.arc(at(w.t_end), y(label[i]), 3, 0, 7);
        pen.stroke();
      }
    });
  }

  novelty(top, height) {
    const { at, windows } = this.shown;
    const pen = this.pen;
    const last = windows.findLast((w) => w.novelty !== null);
    this.label("novelty", "how rare", top, height);
    if (last) this.right_(rarity(last.novelty), top, height, last.novelty < 0.01 ? this.ink.warn : this.ink.ink);
    pen.beginPath();
    pen.rect(LEFT, top, this.shown.inside, height);
    pen.clip();
    const y = (p) => top + height - 4 - Math.min(1, -Math.log10(Math.max(p, 1e-4)) / 4) * (height - 9);
    for (const w of windows) {
      if (w.novelty === null) continue;
      pen.fillStyle = w.novelty < 0.01 ? this.ink.warn : this.ink.accent;
      pen.globalAlpha = w.novelty < 0.01 ? 1 : 0.55;
      pen.fillRect(at(w.t_start) + 1, y(w.novelty), Math.max(1, at(w.t_end) - at(w.t_start) - 2), top + height - 3 - y(w.novelty));
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = this.ink.dim;
    pen.setLineDash([2, 4]);
    line(pen, LEFT, y(0.01), this.shown.width - RIGHT, y(0.01));
  }

  axis() {
    const { view, at, foot, width } = this.shown;
    const pen = this.pen;
    const span = view.end - view.begin;
    const rough = span / Math.max(2, (width - LEFT - RIGHT) / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = this.ink.dim;
    pen.textAlign = "center";
    for (let t = Math.ceil(view.begin / step) * step; t <= view.end; t += step) {
      if (at(t) > LEFT + 20 && at(t) < width - RIGHT - 14) pen.fillText(moment(t, step < 1 ? 1 : 0), at(t), foot + 13);
    }
  }

  hover() {
    if (this.pointer === null || this.pointer < LEFT || this.pointer > this.shown.width - RIGHT) return;
    const pen = this.pen;
    pen.strokeStyle = this.ink.accent;
    pen.lineWidth = 1;
    line(pen, this.pointer, 0, this.pointer, this.shown.foot);
    const text = moment(this.time(this.pointer), 2);
    pen.font = "600 11px system-ui, sans-serif";
    const wide = pen.measureText(text).width + 12;
    pen.fillStyle = this.ink.accent;
    pen.beginPath();
    pen.roundRect(this.pointer - wide / 2, this.shown.foot + 4, wide, 18, 5);
    pen.fill();
    pen.fillStyle = colour("--card");
    pen.textAlign = "center";
    pen.fillText(text, this.pointer, this.shown.foot + 13.5);
  }
}

// How rare windows so far out were in training: 1 in so many.
export function rarity(p) {
  if (p === null || p === undefined) return "–";
  if (p > 0.1) return "usual";
  return p > 0 ? `1 in ${Math.round(1 / p).toLocaleString("en")}` : "never";
}

function line(pen, x1, y1, x2, y2) {
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, y2);
  pen.stroke();
}

function cut(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 0 && pen.measureText(`${text.slice(0, end)}…`).width > room) end--;
  return end > 0 ? `${text.slice(0, end)}…` : "";
}
