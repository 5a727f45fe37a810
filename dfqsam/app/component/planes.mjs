// The planes component: axial, coronal and sagittal through one point, at one scale; a press moves the point.
import { draw, prepared } from "./drawing.mjs";
import { element } from "./elements.mjs";
import { fit, toImage, toPanel, transform, wheelSteps, whole } from "./geometry.mjs";
import { Kept, loading, whenLoaded } from "./kept.mjs";
import { slicesOf } from "./keys.mjs";
import { telling } from "./telling.mjs";

const pictures = new Kept(loading);
const MOST_HEIGHT = 0.62; // of the window's

/** CSS pixels a mm (or a pixel where its size is unknown) at which all planes fit into panels of this size. */
export function commonScale(panel, planes) {
  return Math.min(...planes.map(({ width, height, mm, aspect }) => Math.min(panel.width / (width * mm), panel.height / (height * mm * aspect))));
}

/** The view of a plane of which a mm takes `scale` CSS pixels, as `transform` takes it; the zoom may be below 1. */
export function viewAt(panel, plane, scale, at) {
  const zoom = (scale * plane.mm) / fit(panel, plane).x;
  return { ...at, zoom };
}

class Planes {
  constructor(root) {
    Object.assign(this, { root, panels: [], zoom: 1, busy: false, next: null });
    this.grid = element("div", { className: "panels" });
    this.hint = element("div", { className: "hint" });
    root.replaceChildren(this.grid, this.hint);
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.grid);
  }

  update(data, event, missing) {
    Object.assign(this, { data, event, busy: false });
    if (this.study !== data.study) Object.assign(this, { study: data.study, zoom: 1 });
    if (this.panels.length !== data.planes.length) {
      this.panels = data.planes.map((_, i) => this.panel(i));
      this.grid.replaceChildren(...this.panels.map((panel) => panel.figure));
    }
    const lacking = [];
    data.planes.forEach((plane, i) => {
      const panel = this.panels[i];
      panel.title.replaceChildren(element("span", { textContent: plane.title }), element("small", { textContent: `slice ${plane.index + 1} of ${plane.count}` }));
      panel.layers = plane.layers.map((layer) => prepared(layer, plane.grid.width, plane.grid.height));
      panel.picture = pictures.get(plane.key, plane.picture);
      if (panel.picture) whenLoaded(panel.picture, () => this.paint());
      else lacking.push(plane.key);
    });
    if (lacking.length) missing({ keys: lacking });
    this.hint.textContent = data.hint;
    this.paint();
    if (this.next) this.tell(this.next);
  }

  panel(i) {
    const canvas = element("canvas", { tabIndex: 0 });
    const title = element("figcaption");
    const figure = element("figure", {}, title, element("div", { className: "frame" }, canvas));
    let turned = 0;
    const point = (event) => {
      const place = canvas.getBoundingClientRect();
      const { width, height } = this.data.planes[i];
      const { x, y } = toImage(this.transform(i), event.clientX - place.left, event.clientY - place.top);
      this.tell({ plane: i, x: Math.floor(Math.min(Math.max(x, 0), width - 1)), y: Math.floor(Math.min(Math.max(y, 0), height - 1)) });
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      point(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons & 1 && point(event));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) this.look(this.zoom * Math.exp(-event.deltaY / 400));
        else {
          const { steps, rest } = wheelSteps(turned + event.deltaY * (event.deltaMode === 1 ? 34 : 1));
          turned = rest;
          if (steps) this.step(i, steps);
        }
      },
      { passive: false }
    );
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const zoom = { "+": 1.25, "=": 1.25, "-": 1 / 1.25 }[event.key];
      if (event.key === "0") this.look(1);
      else if (zoom) this.look(this.zoom * zoom);
      else if (slicesOf(event.key)) this.step(i, slicesOf(event.key));
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return { canvas, title, figure, layers: [] };
  }

  look(zoom) {
    this.zoom = Math.min(Math.max(zoom, 1), 20);
    this.paint();
  }
  step(i, steps) {
    const { index, count } = this.data.planes[i];
    this.tell({ plane: i, slice: Math.min(Math.max((this.next?.plane === i ? this.next.slice ?? index : index) + steps, 0), count - 1) });
  }
  // One request at a time, and after it the latest: a drag asks for as many pictures as can be answered.
  tell(event) {
    if (this.busy) {
      this.next = event;
      return;
    }
    Object.assign(this, { busy: true, next: null });
    this.event(event);
    clearTimeout(this.patience);
    this.patience = setTimeout(() => (this.busy = false), 3000); // an answer that never came
  }

  size() {
    const width = this.panels[0].figure.clientWidth;
    const highest = Math.max(320, window.innerHeight * MOST_HEIGHT);
    const scale = commonScale({ width, height: highest }, this.data.planes);
    const height = Math.max(...this.data.planes.map((plane) => plane.height * plane.mm * plane.aspect * scale));
    return { width, height: Math.round(Math.max(height, 160)) };
  }
  transform(i) {
    const [panel, plane] = [this.size(), this.data.planes[i]];
    const scale = commonScale(panel, this.data.planes) * this.zoom;
    const { x, y } = whole(plane);
    const at = this.zoom === 1 ? { x, y } : { x: plane.cursor.x + 0.5, y: plane.cursor.y + 0.5 };
    return transform(viewAt(panel, plane, scale, at), panel, plane);
  }

  paint() {
    if (!this.data || !this.panels.length || !this.panels[0].figure.clientWidth) return;
    const panel = this.size();
    this.panels.forEach(({ canvas, layers, picture }, i) => {
      const plane = this.data.planes[i];
      canvas.style.width = `${panel.width}px`;
      canvas.style.height = `${panel.height}px`;
      const t = this.transform(i);
      const base = fit(panel, plane);
      const view = { zoom: t.sx / base.x, x: (panel.width / 2 - t.tx) / t.sx, y: (panel.height / 2 - t.ty) / t.sy };
      const scene = { view, image: plane, grid: plane.grid, picture: picture?.complete ? picture : null, layers, style: this.data.style };
      draw(canvas, panel, { ...scene, objects: [], selected: -1, sides: plane.sides, mm: this.data.unit === "mm" ? plane.mm : null, lines: toPanel(t, plane.cursor.x + 0.5, plane.cursor.y + 0.5) }, window.devicePixelRatio || 1);
    });
    this.root.dataset.cursors = JSON.stringify(this.data.planes.map(({ cursor, index }) => ({ ...cursor, index })));
    this.root.dataset.transforms = JSON.stringify(this.data.planes.map((_, i) => this.transform(i)));
  }
}

export default function show({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".dq");
  const planes = (root.planes ??= new Planes(root));
  planes.update(
    data,
    telling(setStateValue, "point"),
    telling(setStateValue, "missing")
  );
}
