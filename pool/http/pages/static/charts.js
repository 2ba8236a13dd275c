// Lines over time, drawn as SVG from {from, to, data: [{at, …}]}.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 220;
const LEFT = 56;
const BOTTOM = 22;
const TOP = 8;
const AGAIN_MS = 15000;

export function drawCharts() {
  document.querySelectorAll("figure[data-chart]").forEach((figure) => new Chart(figure));
}

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.plot = figure.querySelector(".plot");
    this.words = figure.querySelector("[data-chart-state]");
    this.series = JSON.parse(figure.dataset.series);
    this.span = "1h";
    figure.querySelectorAll("[data-span]").forEach((button) => {
      button.addEventListener("click", () => this.choose(button.dataset.span));
    });
    this.plot.addEventListener("pointermove", (event) => this.point(this.momentAt(event)));
    this.plot.addEventListener("pointerleave", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.load();
    setInterval(() => { if (!document.hidden) this.load(); }, AGAIN_MS);
  }

  choose(span) {
    this.span = span;
    this.figure.querySelectorAll("[data-span]").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.span === span));
    });
    this.load();
  }

  async load() {
    try {
      const answer = await fetch(`${this.figure.dataset.chart}?span=${this.span}`);
      if (!answer.ok) throw new Error(`the pool answered ${answer.status}`);
      this.found = await answer.json();
      this.draw();
    } catch (error) {
      this.words.textContent = `No chart: ${error.message}. It is tried again.`;
    }
  }

  draw() {
    if (!this.found) return;
    const { to, data } = this.found;
    const from = beginning(this.found);
    const width = Math.max(200, this.plot.clientWidth);
    const most = nice(Math.max(...data.map((one) => one[this.series[0].name]), 0));
    this.x = (at) => LEFT + ((at - from) / (to - from)) * (width - LEFT - 8);
    this.y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
    const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" });
    for (let line = 0; line <= 4; line += 1) {
      const value = (most * line) / 4;
      const y = this.y(value);
      svg.append(make("line", { class: "grid", x1: LEFT, x2: width - 8, y1: y, y2: y }));
      svg.append(text(LEFT - 8, y + 4, short(value), "end"));
    }
    const marks = width < 500 ? 3 : 6;
    for (let mark = 0; mark <= marks; mark += 1) {
      const at = from + ((to - from) * mark) / marks;
      const side = mark === 0 ? "start" : mark === marks ? "end" : "middle";
      svg.append(text(this.x(at), HEIGHT - 4, clock(at, to - from), side));
    }
    const name = this.series[0].name;
    if (data.length > 0) {
      const points = data.map((one) => `${this.x(one.at).toFixed(1)},${this.y(one[name]).toFixed(1)}`);
      const ground = this.y(0);
      const first = this.x(data[0].at);
      const last = this.x(data[data.length - 1].at);
      svg.append(make("path", { class: "area", d: `M${first},${ground} L${points.join(" L")} L${last},${ground} Z` }));
      svg.append(make("polyline", { class: "line", points: points.join(" ") }));
    }
    this.cursor = make("g", {});
    svg.append(this.cursor);
    this.plot.replaceChildren(svg);
    this.tell(null);
  }

  momentAt(event) {
    if (!this.found || !this.found.data.length) return null;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const away = (one) => Math.abs(this.x(one.at) - x);
    return this.found.data.reduce((best, one) => (away(one) < away(best) ? one : best));
  }

  step(event) {
    const data = this.found?.data ?? [];
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !data.length) return;
    event.preventDefault();
    const now = this.shown ? data.indexOf(this.shown) : data.length;
    this.point(data[Math.min(data.length - 1, Math.max(0, now + by))]);
  }

  point(moment) {
    this.shown = moment;
    if (!this.cursor) return;
    this.cursor.replaceChildren();
    if (moment) {
      const x = this.x(moment.at);
      const y = this.y(moment[this.series[0].name]);
      this.cursor.append(make("line", { class: "cursor", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
      this.cursor.append(make("circle", { class: "dot", cx: x, cy: y, r: 4 }));
    }
    this.tell(moment);
  }

  tell(moment) {
    const { data } = this.found;
    const { name, label } = this.series[0];
    const one = moment ?? data[data.length - 1];
    if (!one) {
      this.words.textContent = "Nothing in this time yet.";
      return;
    }
    const when = new Date(one.at * 1000).toLocaleString();
    this.words.textContent = `${moment ? "" : "Last: "}${short(one[name])} ${label} at ${when}`;
    this.plot.setAttribute("aria-label", this.words.textContent);
  }
}

// A pool younger than half of the span is shown from its own beginning.
function beginning({ from, to, data }) {
  const young = data.length > 0 && data[0].at > (from + to) / 2;
  return young ? Math.min(data[0].at, to - 60) : from;
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(x, y, words, anchor) {
  const element = make("text", { x, y, "text-anchor": anchor });
  element.textContent = words;
  return element;
}

// The next of 1, 2, 4, 10 times a power of ten: quarters of it are round.
function nice(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 10].find((step) => step * power >= value);
}

function short(value) {
  for (const [size, letter] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))} ${letter}`;
  }
  return String(Number(value.toPrecision(3)));
}

function clock(at, span) {
  const moment = new Date(at * 1000);
  return span > 172800
    ? moment.toLocaleDateString(undefined, { month: "short", day: "numeric" })
    : moment.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}
