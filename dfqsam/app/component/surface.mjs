// The surface component: the masks of both models as solids, turned together with the mouse.
import { text } from "./drawing.mjs";
import { button, element } from "./elements.mjs";
import { scaleBar } from "./geometry.mjs";
import { FLAT, FRONT, VIEWS, ramp, render, seen, turned, unpacked } from "./solid.mjs";

const FINE = 2; // pixels rendered for each of the screen's, across and down, while nothing moves
const ARROWS = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
const AXES = [["L", [-1, 0, 0]], ["R", [1, 0, 0]], ["A", [0, 1, 0]], ["P", [0, -1, 0]], ["S", [0, 0, 1]], ["I", [0, 0, -1]]];

const rgb = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

class Surface {
  constructor(root) {
    Object.assign(this, { root, panels: [], rotation: FRONT, zoom: 1 });
    root.tabIndex = 0;
    this.bar = element("div", { className: "bar" });
    this.grid = element("div", { className: "panels" });
    this.hint = element("div", { className: "hint" });
    root.replaceChildren(this.bar, this.grid, this.hint);
    root.addEventListener("keydown", (event) => this.key(event));
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.grid);
  }

  update(data) {
    const fresh = this.data?.key !== data.key;
    this.data = data;
    if (fresh) {
      if (this.study !== data.study) Object.assign(this, { study: data.study, rotation: data.patient ? FRONT : FLAT, zoom: 1 });
      this.panels = data.panels.map((panel) => this.panel(panel));
      this.grid.replaceChildren(...this.panels.map((panel) => panel.figure));
      const views = data.patient ? VIEWS : { Reset: FLAT };
      this.bar.replaceChildren(
        ...Object.entries(views).map(([name, rotation]) => button(name, name, `seen from here: ${name.toLowerCase()}`, () => this.turn(rotation))),
        element("span", { className: "space" }),
        button("out", "−", "smaller (−)", () => this.scale(1 / 1.25)),
        button("whole", "Fit", "whole surface (0)", () => this.scale(0)),
        button("in", "+", "larger (+)", () => this.scale(1.25))
      );
      this.hint.textContent = data.hint;
    }
    this.paint();
  }

  panel({ title, legend, mesh, colour, ramp: stops }) {
    const canvas = element("canvas");
    const swatches = legend.map(([fill, words]) => [element("i", { style: `background:${fill}` }), element("small", { textContent: words })]);
    const figure = element("figure", {}, element("figcaption", {}, element("span", { textContent: title }), ...swatches.flat()), element("div", { className: "frame" }, canvas));
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      this.root.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.held = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.held) return;
      const [x, y] = this.held;
      this.held = [event.clientX, event.clientY];
      this.turn(turned(this.rotation, (event.clientX - x) / 110, (event.clientY - y) / 110));
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, () => {
        this.held = null;
        this.paint();
      });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.scale(Math.exp(-event.deltaY / 400));
      },
      { passive: false }
    );
    return { canvas, figure, mesh: mesh && unpacked(mesh), colours: stops ? ramp(stops.map(rgb)) : rgb(colour) };
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoom = { "+": 1.25, "=": 1.25, "-": 1 / 1.25, 0: 0 }[event.key];
    if (zoom !== undefined) this.scale(zoom);
    else if (ARROWS[event.key]) this.turn(turned(this.rotation, ...ARROWS[event.key]));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  turn(rotation) {
    this.rotation = rotation;
    this.paint();
  }
  scale(factor) {
    this.zoom = factor ? Math.min(Math.max(this.zoom * factor, 0.5), 12) : 1;
    this.paint();
  }

  // At most once a frame of the screen; finer when the mouse is still.
  paint() {
    if (this.coming) return;
    this.coming = requestAnimationFrame(() => {
      this.coming = null;
      this.draw();
    });
  }
  draw() {
    if (!this.data || !this.panels.length || !this.panels[0].figure.clientWidth) return;
    const width = this.panels[0].figure.clientWidth;
    const height = Math.round(Math.min(width, Math.max(320, window.innerHeight * 0.55)));
    const fine = (this.held ? 1 : FINE) * (window.devicePixelRatio || 1);
    const scale = (this.zoom * 0.46 * Math.min(width, height)) / this.data.radius;
    for (const { canvas, mesh, colours } of this.panels) {
      const [wide, high] = [Math.round(width * fine), Math.round(height * fine)];
      Object.assign(canvas, { width: wide, height: high });
      Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
      const pen = canvas.getContext("2d");
      const picture = new ImageData(wide, high);
      if (mesh) render(picture.data, wide, high, mesh, this.rotation, scale * fine, colours);
      pen.putImageData(picture, 0, 0);
      pen.setTransform(fine, 0, 0, fine, 0, 0);
      if (!mesh) text(pen, "no mask", width / 2, height / 2);
      if (this.data.patient) this.compass(pen, width, height);
      this.ruler(pen, height, scale);
    }
    this.root.dataset.rotation = JSON.stringify(this.rotation);
  }
  compass(pen, width, height) {
    const [x, y, long] = [width - 44, height - 42, 24];
    const placed = AXES.map(([letter, axis]) => [letter, seen(this.rotation, axis)]).sort((a, b) => a[1][2] - b[1][2]);
    for (const [letter, [right, up, near]] of placed) {
      pen.globalAlpha = near < -0.3 ? 0.35 : 1;
      pen.strokeStyle = "#ffffff";
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x + right * long, y - up * long);
      pen.stroke();
      if (Math.hypot(right, up) > 0.4) text(pen, letter, x + right * (long + 9), y - up * (long + 9));
    }
    pen.globalAlpha = 1;
  }
  ruler(pen, height, scale) {
    const { mm, pixels } = scaleBar(1 / scale, 70);
    pen.strokeStyle = "#ffffff";
    pen.lineWidth = 1.5;
    pen.stroke(new Path2D(`M14 ${height - 18}v4h${pixels}v-4`));
    const large = this.data.unit === "mm" && mm >= 10 && mm % 10 === 0;
    text(pen, large ? `${mm / 10} cm` : `${mm} ${this.data.unit}`, 14 + pixels / 2, height - 26);
  }
}

export default function show({ data, parentElement }) {
  const root = parentElement.querySelector(".dq");
  const surface = (root.surface ??= new Surface(root));
  surface.update(data);
}
