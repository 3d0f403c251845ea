// The list of streams: thousands of rows, of which only those in sight are elements.
import { Drawn } from "./drawn.js";
import { count, figure, make, percent, span } from "./words.js";

const HEIGHT = 48;
const SPARE = 6;
const KEYS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
const NOTES = ["ended", "", "samples are not used", "novel: far from training", "state out of range", "", "set aside"];

export class List extends Drawn {
  constructor(chosen) {
    super();
    this.chosen = chosen;
    this.streams = new Map();
    this.order = [];
    this.selected = null;
    this.skew = 0;
    this.box = document.getElementById("list");
    this.space = document.getElementById("space");
    this.search = document.getElementById("search");
    this.sort = document.getElementById("sort");
    this.rows = [];
    this.stale = false;
    this.box.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.soon()).observe(this.box);
    this.search.addEventListener("input", () => this.arrange());
    this.sort.addEventListener("change", () => this.arrange());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) this.choose(row.stream.name, true);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT)$/.test(document.activeElement.tagName)) {
        event.preventDefault();
        this.search.focus();
      } else if (event.key === "Escape" && document.activeElement === this.search) {
        this.search.value = "";
        this.arrange();
        this.box.focus();
      }
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        this.box.focus();
        if (this.order.length) this.choose(this.order[0].name, event.key === "Enter");
      }
    });
  }

  take(rows) {
    for (const [id, name, t, window, samples, unused, heard, value, novelty, label, care, why] of rows) {
      const stream = { id, name, t, window, samples, unused, heard, value, novelty, label, care, why, low: name.toLowerCase() };
      this.streams.set(id, stream);
    }
    // Rows that come while the list is being scrolled or read move at most every two seconds.
    if (!this.arranged || performance.now() - this.arranged > 2000 || this.order.length !== this.streams.size) this.arrange();
    else {
      for (let i = 0; i < this.order.length; i++) this.order[i] = this.streams.get(this.order[i].id);
      this.soon();
    }
  }

  find(name) {
    for (const stream of this.streams.values()) if (stream.name === name) return stream;
    return null;
  }

  arrange() {
    const sought = this.search.value.trim().toLowerCase();
    let found = [...this.streams.values()];
    if (sought) found = found.filter((s) => s.low.includes(sought) || (s.label || "").toLowerCase().includes(sought) || s.why.toLowerCase().includes(sought));
    const byName = (a, b) => (a.low < b.low ? -1 : a.low > b.low ? 1 : a.id - b.id);
    const orders = {
      care: (a, b) => b.care - a.care || byName(a, b),
      name: byName,
      sure: (a, b) => (a.value ?? 9) - (b.value ?? 9) || byName(a, b),
      quiet: (a, b) => a.heard - b.heard || byName(a, b),
    };
    this.order = found.sort(orders[this.sort.value]);
    this.arranged = performance.now();
    const all = this.streams.size;
    document.getElementById("shown").textContent = sought ? `${count(found.length)} of ${count(all)}` : `${count(all)}${this.beyond ? ` + ${count(this.beyond)} not listed` : ""}`;
    this.soon();
  }

  draw() {
    const height = `${this.order.length * HEIGHT}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(this.order.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / HEIGHT) + SPARE);
    while (this.rows.length < last - first) this.rows.push(this.newRow());
    for (let i = 0; i < this.rows.length; i++) {
      // A row keeps its element while it is in sight: the place decides which.
      const place = first + ((i - (first % this.rows.length) + this.rows.length) % this.rows.length);
      if (place >= last) this.rows[i].hidden = true;
      else this.fill(this.rows[i], this.order[place], place);
    }
    const active = this.order.findIndex((s) => s.name === this.selected);
    if (active >= first && active < last) this.box.setAttribute("aria-activedescendant", `row-${active}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  newRow() {
    const row = make("div", undefined, "row");
    row.setAttribute("role", "option");
    row.parts = [make("b"), make("span", undefined, "said"), make("small", undefined, "note"), make("small", undefined, "when")];
    row.append(make("i"), ...row.parts);
    this.space.append(row);
    return row;
  }

  fill(row, stream, place) {
    const quiet = Date.now() / 1000 + this.skew - stream.heard;
    const [name, said, note, when] = row.parts;
    const texts = [stream.name, this.said(stream), stream.why || NOTES[stream.care] || `${count(stream.samples)} samples${stream.unused ? `, ${count(stream.unused)} not used` : ""}`, quiet > 5 ? `silent ${span(quiet)}` : `window ${count(stream.window)}`];
    [name, said, note, when].forEach((element, i) => {
      if (element.textContent !== texts[i]) element.textContent = texts[i];
    });
    if (row.place !== place) {
      row.place = place;
      row.id = `row-${place}`;
      row.style.transform = `translateY(${place * HEIGHT}px)`;
      row.setAttribute("aria-posinset", place + 1);
    }
    row.setAttribute("aria-setsize", this.order.length);
    row.setAttribute("aria-selected", stream.name === this.selected);
    row.dataset.care = stream.care;
    row.hidden = false;
    row.stream = stream;
  }

  said(stream) {
    if (stream.label) return `${stream.label} ${percent(stream.value)}`;
    return stream.value === null ? "" : figure(stream.value);
  }

  choose(name, open) {
    this.selected = name;
    const place = this.order.findIndex((s) => s.name === name);
    if (place >= 0) {
      const top = place * HEIGHT;
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      else if (top + HEIGHT > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = top + HEIGHT - this.box.clientHeight;
    }
    this.draw();
    this.chosen(name, open);
  }

  key(event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (this.selected !== null) this.chosen(this.selected, true);
    }
    const step = KEYS[event.key];
    if (step === undefined || !this.order.length) return;
    event.preventDefault();
    const now = this.order.findIndex((s) => s.name === this.selected);
    const place = Math.min(this.order.length - 1, Math.max(0, (now < 0 ? -Math.sign(step) : now) + step));
    this.choose(this.order[place].name, false);
  }
}
