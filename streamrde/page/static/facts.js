// Counters above, and beside the stream: troubles, what is set aside, what could not be read, connections.
import { colour, count, figure, make, percent, span } from "./words.js";

const LENGTH = 90; // points of a sparkline

export class Facts {
  constructor(open) {
    this.open = open;
    this.tiles = document.getElementById("tiles");
    this.cards = document.getElementById("cards");
    this.health = document.getElementById("health");
    this.past = null;
    this.rates = { rows: [], predictions: [] };
    this.made = new Map();
    this.said = "";
  }

  take(status) {
    const past = this.past;
    const seconds = past ? status.now - past.now : 0;
    if (past && seconds > 0.05) {
      for (const name of ["rows", "predictions"]) {
        const list = this.rates[name];
        list.push(Math.max(0, (status[name] - past[name]) / seconds));
        if (list.length > LENGTH) list.shift();
      }
    }
    this.past = status;
    document.getElementById("title").textContent = status.title;
    this.pill(status.obstacles.length ? "bad" : "good", status.obstacles[0] || "live");
    const rate = (name) => {
      const recent = this.rates[name].slice(-6);
      return recent.length ? recent.reduce((a, b) => a + b) / recent.length : null;
    };
    const notUsed = status.rows_late + status.rows_duplicate + status.rows_rejected;
    this.tile("samples", "samples/s", count(rate("rows")), this.rates.rows);
    this.tile("predictions", "predictions/s", count(rate("predictions")), this.rates.predictions);
    this.tile("lag", "lag", span(status.lag), null, status.lag > 5 ? "warn" : "");
    this.tile("latency", "latency p99", span(status.latency_p99));
    this.tile("unused", "not used", count(notUsed), null, notUsed ? "warn" : "");
    this.tile("aside", "set aside", count(status.aside.length), null, status.aside.length ? "bad" : "");
    this.notes(status, notUsed);
  }

  down(state) {
    this.pill(state === "ended" ? "warn" : "bad", state === "ended" ? "the run has ended" : "no connection, trying again");
  }

  pill(state, text) {
    if (this.health.textContent !== text) this.health.textContent = text;
    this.health.dataset.state = state;
  }

  tile(key, name, text, line, kind = "") {
    let tile = this.made.get(key);
    if (!tile) {
      tile = { box: make("div"), value: make("span") };
      tile.box.id = `tile-${key}`;
      const dd = make("dd");
      dd.append(tile.value);
      if (line) {
        tile.canvas = make("canvas");
        tile.canvas.setAttribute("aria-hidden", "true");
        dd.append(tile.canvas);
      }
      tile.box.append(make("dt", name), dd);
      this.tiles.append(tile.box);
      this.made.set(key, tile);
    }
    if (tile.value.textContent !== text) tile.value.textContent = text;
    tile.box.className = kind;
    if (line) spark(tile.canvas, line);
  }

  notes(status, notUsed) {
    const pairs = [
      ["streams", count(status.streams)],
      ["samples", count(status.rows)],
      ["predictions", count(status.predictions)],
      ["late", count(status.rows_late)],
      ["repeated", count(status.rows_duplicate)],
      ["rejected", count(status.rows_rejected)],
      ["not readable", count(status.malformed)],
      ["missed", count(status.missed)],
      ["dropped", count(status.dropped)],
      ["novel windows", count(status.novel)],
      ["latency p50", span(status.latency_p50)],
      ["batches", count(status.batches)],
      ["waiting", count(status.waiting)],
    ];
    if (status.labels) {
      const { errors, coverage } = status.labels;
      pairs.push(["labels learned", count(status.labels.joined)]);
      for (const [name, key] of [["labels too late", "expired"], ["labels again", "duplicate"], ["labels of nothing", "unknown"], ["labels early", "held"], ["labels waiting", "waiting"], ["never labelled", "never"]]) pairs.push([name, count(status.labels[key])]);
      for (const [output, error] of Object.entries(errors.served)) if (error !== null) pairs.push([`${output}: error`, figure(error)], [`${output}: the model's`, figure(errors.frozen[output])], [`${output}: last label's`, figure(errors.last[output])]);
      for (const [output, share] of Object.entries(coverage)) if (share !== null) pairs.push([`${output}: in interval`, percent(share)]);
      for (const [output, alarms] of Object.entries(status.labels.drifts)) if (alarms) pairs.push([`${output}: alarms`, count(alarms)]);
    }
    if (status.checkpoints) pairs.push(["checkpoints", count(status.checkpoints)], ["last checkpoint", `${span(status.now - status.last_checkpoint)} ago`], ["checkpoint p99", span(status.checkpoint_p99)], ["not saved yet", count(status.unsaved)]);
    for (const [end, connected] of Object.entries(status.connections)) pairs.push([end, connected ? "connected" : "away"]);
    pairs.push(["model", status.model], ["running for", span(status.seconds)]);
    for (const one of status.partitions || []) pairs.push([`${one.topic} ${one.partition}`, one.failure || one.phase]);
    const troubles = status.latest.filter((one) => !one.over);
    const built = JSON.stringify([status.obstacles, troubles, status.aside.map((one) => [one.name, one.reason]), status.letters]);
    if (built !== this.built) {
      this.built = built;
      const cards = [];
      for (const text of status.obstacles) cards.push(card("In the way", [[text, "bad"]]));
      for (const one of status.aside) cards.push(this.link(one.name, [["set aside", "bad"], [one.reason]]));
      for (const one of troubles) cards.push(this.link(one.stream, [[one.channel ? `${one.channel}: ${one.reason}` : one.reason, "warn"], [one.remedy]]));
      const letters = new Map();
      for (const one of status.letters) letters.set(`${one.topic}\n${one.reason}`, [one, (letters.get(`${one.topic}\n${one.reason}`)?.[1] || 0) + 1]);
      for (const [one, times] of letters.values()) cards.push(card(one.topic || "a message", [[times > 1 ? `not used, ${times} times` : "not used", "warn"], [one.reason]]));
      if (!cards.length) cards.push(card("Nothing", [["All streams are as they should be."]]));
      this.counters = make("dl", undefined, "pairs");
      const box = card("Counters", []);
      box.append(this.counters);
      this.cards.replaceChildren(...cards, box);
      this.values = new Map();
    }
    for (const [name, text] of pairs) {
      let value = this.values.get(name);
      if (!value) {
        value = make("dd");
        this.counters.append(make("dt", name), value);
        this.values.set(name, value);
      }
      if (value.textContent !== text) value.textContent = text;
    }
  }

  link(name, lines) {
    const box = card("", lines);
    const button = make("button", name);
    button.type = "button";
    button.addEventListener("click", () => this.open(name));
    box.firstChild.append(button);
    return box;
  }
}

function card(title, lines) {
  const box = make("div", undefined, "card");
  box.append(make("h3", title));
  for (const [text, kind] of lines) if (text) box.append(make("p", text, kind || ""));
  return box;
}

function spark(canvas, rates) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [54, 18];
  if (canvas.width !== width * ratio) [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  // Batches do not fall evenly between two looks: the line is the mean of four.
  const values = rates.map((_, i) => rates.slice(Math.max(0, i - 3), i + 1)).map((few) => few.reduce((a, b) => a + b) / few.length);
  if (values.length < 2) return;
  const top = Math.max(1e-9, ...values) * 1.1;
  const points = values.map((v, i) => [1 + (i * (width - 2)) / (values.length - 1), height - 1.5 - (v / top) * (height - 3)]);
  const path = () => {
    pen.beginPath();
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  };
  pen.strokeStyle = pen.fillStyle = colour("--accent");
  path();
  pen.lineTo(width - 1, height);
  pen.lineTo(1, height);
  pen.globalAlpha = 0.15;
  pen.fill();
  pen.globalAlpha = 1;
  path();
  pen.lineWidth = 1.4;
  pen.stroke();
}
