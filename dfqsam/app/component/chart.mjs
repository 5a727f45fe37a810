// The chart component: agreement of both models on every slice, and how large the object is; a click goes to a slice.
import { element } from "./elements.mjs";
import { nearest, plot, ticks } from "./plot.mjs";
import { slicesOf } from "./keys.mjs";
import { telling } from "./telling.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 104;
const EDGE = { left: 54, right: 14, top: 24, bottom: 22 };

function drawn(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

class Chart {
  constructor(root) {
    this.root = root;
    root.tabIndex = 0;
    root.addEventListener("keydown", (event) => this.key(event));
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(root);
  }

  update(data, event) {
    Object.assign(this, { data, event });
    this.paint();
  }

  key(event) {
    const steps = slicesOf(event.key);
    if (!steps || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.go(Math.min(Math.max(this.data.current + steps, 0), this.data.count - 1));
  }

  go(index) {
    if (index !== this.data.current) this.event({ index });
  }

  paint() {
    const width = this.root.clientWidth;
    if (!this.data || !width) return;
    const rows = this.data.rows.map((row, i) => this.row(row, width, i === this.data.rows.length - 1));
    this.root.replaceChildren(...rows);
    Object.assign(this.root.dataset, { slices: this.data.slices.length, current: this.data.current });
  }

  row({ title, series, low, high, unit }, width, last) {
    const below = last ? EDGE.bottom : 12;
    const height = HEIGHT + below;
    const frame = { x: EDGE.left, y: EDGE.top, width: width - EDGE.left - EDGE.right, height: HEIGHT - EDGE.top };
    const { x, y } = plot(frame, this.data, low, high);
    const svg = drawn("svg", { width, height, role: "img", "aria-label": title });
    svg.append(drawn("text", { x: 0, y: 10, class: "title" }, title));
    for (const value of ticks(low, high)) {
      svg.append(drawn("line", { x1: frame.x, x2: frame.x + frame.width, y1: y(value), y2: y(value), class: "rule" }));
      svg.append(drawn("text", { x: frame.x - 7, y: y(value) + 4, class: "value" }, `${+value.toPrecision(3)}${unit}`));
    }
    if (last) for (const at of ticks(this.data.first + 1, this.data.last + 1, 9).filter(Number.isInteger)) svg.append(drawn("text", { x: x(at - 1), y: height - 5, class: "slice" }, `${at}`));
    const here = x(this.data.current);
    if (this.data.current >= this.data.first && this.data.current <= this.data.last) svg.append(drawn("line", { x1: here, x2: here, y1: frame.y - 4, y2: frame.y + frame.height, class: "here" }));
    series.forEach(({ values, colour, name }, order) => {
      const more = series.length - 1 - order; // where two lie on each other, both are seen
      const points = this.data.slices.map((k, i) => [k, values[i]]).filter(([, value]) => value !== null);
      svg.append(drawn("polyline", { points: points.map(([k, value]) => `${x(k)},${y(value)}`).join(" "), class: "line", stroke: colour, "stroke-width": 1.5 + 2.5 * more }));
      for (const [k, value] of points) {
        const tip = drawn("title", {}, `slice ${k + 1}, ${name}: ${+value.toPrecision(4)}${unit}`);
        svg.append(drawn("circle", { cx: x(k), cy: y(value), r: (k === this.data.current ? 5 : 2.5) + 2 * more, fill: colour }, tip));
      }
    });
    svg.addEventListener("click", (event) => {
      this.root.focus({ preventScroll: true });
      this.go(nearest(this.data.slices, frame, this.data, event.clientX - svg.getBoundingClientRect().left));
    });
    return svg;
  }
}

export default function show({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".dqc");
  const chart = (root.chart ??= new Chart(root));
  chart.update(data, telling(setStateValue, "slice"));
}
