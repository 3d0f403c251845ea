// The live page: one connection for the list and the counters, one for the stream that is looked at.
import { Chart, rarity } from "./chart.js";
import { Facts } from "./facts.js";
import { Feed } from "./feed.js";
import { List } from "./list.js";
import { count, figure, make, moment, percent } from "./words.js";

const LINES = 30; // predictions in the table
const chart = new Chart(document.getElementById("chart"));
const facts = new Facts((name) => list.choose(name, true));
const list = new List(select);
let feed = null;
let dead = false;

function select(name, open) {
  if (open) document.body.classList.add("one");
  if (feed && feed.name === name) return;
  if (dead) {
    // The run has ended: what the page has of the stream stays in the list.
    document.getElementById("facts").textContent = "";
  }
  feed?.close();
  chart.clear();
  document.getElementById("nothing").hidden = true;
  document.getElementById("detail").hidden = false;
  document.getElementById("name").textContent = name;
  document.querySelector("#table tbody").replaceChildren();
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  head();
  feed = dead ? null : connect(name);
}

function connect(name) {
  const one = new Feed(`/page/stream?name=${encodeURIComponent(name)}`, { part }, (state, again) => {
    if (state !== "ended" && again && !dead) setTimeout(() => feed === one && (feed = connect(name)), 3000);
  });
  one.name = name;
  return one;
}

function part(found) {
  chart.take(found);
  head();
  if (found.predictions || found.channels) table();
}

// The line above the chart: what is predicted now, how sure, and what is true where that is known.
function head() {
  const name = document.getElementById("name").textContent;
  const stream = list.find(name);
  const last = chart.windows.at(-1);
  const answer = document.getElementById("answer");
  let text = "";
  if (last) {
    const labels = Object.keys(last).filter((key) => key.startsWith("label"));
    if (labels.length === 1) text = `${last.label ?? "–"} ${percent(last.value.length === 1 ? Math.max(last.value[0], 1 - last.value[0]) : Math.max(...last.value))}`;
    else if (labels.length) text = labels.map((key) => `${key.slice(6)} ${last[key] ?? "–"}`).join(", ");
    else text = last.value.map(figure).join(", ");
    if (last.flag) text += ` (${last.flag.replaceAll("_", " ")})`;
  }
  const truth = chart.labels.at(-1);
  const parts = [make("span", text)];
  if (truth) parts.push(make("span", `truth: ${Array.isArray(truth.label) ? truth.label.map(figure).join(", ") : truth.label}`, "truth"));
  if (answer.textContent !== parts.map((p) => p.textContent).join("")) answer.replaceChildren(...parts);
  const why = document.getElementById("why");
  why.hidden = !stream?.why;
  why.textContent = stream?.why || "";
  if (!stream) return;
  const words = [`${count(stream.samples)} samples`, `window ${count(stream.window)}`, `at ${moment(stream.t)}`];
  if (stream.unused) words.push(`${count(stream.unused)} not used`);
  document.getElementById("facts").textContent = words.join("  ·  ");
}

function table() {
  const rows = chart.windows.slice(-LINES).reverse();
  const novel = rows.some((row) => "novelty" in row);
  const names = ["window", "from", "to", "prediction", "confidence or value", ...(novel ? ["novelty"] : []), "flag"];
  const tr = make("tr");
  for (const name of names) {
    const th = make("th", name);
    th.scope = "col";
    tr.append(th);
  }
  document.querySelector("#table thead").replaceChildren(tr);
  document.querySelector("#table tbody").replaceChildren(
    ...rows.map((row) => {
      const line = make("tr");
      const labels = Object.keys(row).filter((key) => key.startsWith("label"));
      const value = labels.length === 1 ? percent(row.value.length === 1 ? Math.max(row.value[0], 1 - row.value[0]) : Math.max(...row.value)) : row.value.map(figure).join(", ");
      const cells = [count(row.window), moment(row.t_start, 2), moment(row.t_end, 2), labels.map((key) => row[key] ?? "–").join(", ") || "–", value, ...(novel ? [rarity(row.novelty)] : []), (row.flag || "").replaceAll("_", " ")];
      for (const text of cells) line.append(make("td", text));
      return line;
    }),
  );
}

document.getElementById("back").addEventListener("click", back);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") back();
});
function back() {
  document.body.classList.remove("one");
  document.getElementById("list").focus();
}

function live() {
  new Feed(
    "/page/live",
    {
      status(found) {
        list.skew = found.now - Date.now() / 1000;
        list.beyond = found.beyond;
        facts.take(found);
      },
      streams(rows) {
        list.take(rows);
        const wanted = decodeURIComponent(location.hash.slice(1));
        if (list.selected === null && list.order.length) {
          const first = list.find(wanted) || list.order[0];
          list.choose(first.name, Boolean(wanted) && first.name === wanted);
        } else if (feed) head();
      },
    },
    (state, again) => {
      facts.down(state);
      if (state === "ended") {
        dead = true;
        feed?.close(); // one that was still on its way would try to connect for ever
      } else if (again) setTimeout(live, 3000);
    },
  );
}
live();
