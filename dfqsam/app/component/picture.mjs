// The picture component: panels in step, prompts drawn on them with mouse and keys, and what became of it for Python.
import { Asked } from "./asked.mjs";
import { draw, prepared } from "./drawing.mjs";
import { element } from "./elements.mjs";
import { held, transform, wheelSteps, whole, without, zoomAt } from "./geometry.mjs";
import { Kept, loading, whenLoaded } from "./kept.mjs";
import { keyDown, keyUp } from "./keys.mjs";
import { listen } from "./pointer.mjs";
import { fillBar } from "./toolbar.mjs";
import { telling } from "./telling.mjs";

const pictures = new Kept(loading);

class Picture {
  constructor(root) {
    this.root = root;
    Object.assign(this, { prompts: { objects: [], selected: -1 }, past: [], revision: 0, epoch: null, mode: "box" });
    Object.assign(this, { turned: 0, cross: null, drag: null, hidden: false, space: false, panels: [] });
    root.tabIndex = 0;
    this.bar = element("div", { className: "bar" });
    this.help = element("div", { className: "help" });
    this.grid = element("div", { className: "panels" });
    this.hint = element("div", { className: "hint" });
    root.replaceChildren(this.bar, this.help, this.grid, this.hint);
    root.addEventListener("keydown", (event) => keyDown(this, event));
    root.addEventListener("keyup", (event) => keyUp(this, event));
    root.addEventListener("blur", () => [" ", "h"].forEach((key) => keyUp(this, { key })));
    this.grid.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.grid);
  }

  update(data, send, event, missing) {
    Object.assign(this, { data, send, event });
    if (data.epoch !== this.epoch) {
      // Another slice or study: what Python keeps of it counts. On the same one, what is drawn here is ahead of Python.
      const sameSize = this.image && this.image.width === data.width && this.image.height === data.height;
      const plane = data.epoch.split("/").slice(0, 2).join("/");
      if (plane !== this.plane) this.asked = new Asked();
      Object.assign(this, { epoch: data.epoch, plane });
      this.prompts = { objects: structuredClone(data.prompts.objects), selected: data.prompts.objects.length - 1 };
      this.revision = data.prompts.revision;
      Object.assign(this, { past: [], drag: null });
      this.asked.seen(data.slice.index);
      if (!sameSize) this.view = null;
    }
    this.image = { width: data.width, height: data.height, aspect: data.aspect };
    this.view = held(this.view ?? whole(this.image), this.image);
    if (!data.points) this.mode = "box";
    this.wants = data.key;
    const picture = pictures.get(data.key, data.picture);
    const ready = () => {
      if (this.wants !== data.key) return;
      this.picture = picture; // with its masks, never before them
      this.arrange();
      this.paint();
    };
    if (picture) whenLoaded(picture, ready);
    else {
      missing({ key: data.key });
      ready(); // without a picture rather than with that of another slice
    }
  }

  arrange() {
    const { data } = this;
    if (this.panels.length !== data.panels.length) {
      this.panels = data.panels.map(() => {
        const canvas = element("canvas");
        const title = element("figcaption");
        const frame = element("div", { className: "frame" }, canvas, element("div", { className: "waiting", textContent: "segmenting …" }));
        listen(this, canvas);
        return { canvas, title, frame, figure: element("figure", {}, title, frame) };
      });
      this.grid.replaceChildren(...this.panels.map((panel) => panel.figure));
    }
    data.panels.forEach((wanted, i) => {
      const swatches = wanted.legend.map(([colour, words]) => [element("i", { style: `background:${colour}` }), element("small", { textContent: words })]);
      this.panels[i].title.replaceChildren(element("span", { textContent: wanted.title }), ...swatches.flat());
      this.panels[i].layers = wanted.layers.map((layer) => prepared(layer, data.grid.width, data.grid.height));
    });
    fillBar(this);
    this.hint.textContent = data.hint;
  }

  size() {
    const width = this.panels[0].figure.clientWidth;
    const natural = (width * this.image.height * this.image.aspect) / this.image.width;
    return { width, height: Math.round(Math.min(Math.max(natural, 220), Math.max(320, window.innerHeight * 0.62))) };
  }

  paint() {
    if (!this.data || !this.panels.length || !this.panels[0].figure.clientWidth) return;
    const panel = this.size();
    const pending = this.revision !== this.data.answered;
    this.root.classList.toggle("pending", pending && this.prompts.objects.length > 0);
    const t = transform(this.view, panel, this.image);
    Object.assign(this.root.dataset, { epoch: this.epoch, revision: this.revision, answered: this.data.answered, transform: JSON.stringify(t), objects: JSON.stringify(this.prompts.objects) });
    this.panels.forEach(({ canvas, frame, layers }, i) => {
      frame.style.height = canvas.style.height = `${panel.height}px`;
      canvas.style.width = `${panel.width}px`;
      const objects = this.drag?.box ? [...this.prompts.objects, { box: this.drag.box, points: [] }] : this.prompts.objects;
      const selected = this.drag?.box ? objects.length - 1 : this.prompts.selected;
      const cross = this.cross && this.cross.panel !== i ? this.cross : null;
      const scene = { view: this.view, image: this.image, grid: this.data.grid, picture: this.picture, layers, style: this.data.style };
      Object.assign(scene, { objects: this.data.panels[i].prompts ? objects : [], selected, sides: this.data.sides, mm: this.data.mm, cross });
      draw(canvas, panel, Object.assign(scene, { faded: pending, hidden: this.hidden }), window.devicePixelRatio || 1);
    });
  }

  // What was drawn: kept here for undo, and told to Python under a number of its own.
  change(prompts, remember = true) {
    if (remember) this.past.push(structuredClone(this.prompts));
    this.prompts = prompts;
    this.revision += 1;
    this.send({ epoch: this.epoch, revision: this.revision, ...prompts });
    fillBar(this);
    this.paint();
  }
  undo() {
    if (this.past.length) this.change(this.past.pop(), false);
  }
  remove() {
    if (this.prompts.selected >= 0) this.change(without(this.prompts, this.prompts.selected));
  }
  choose(mode) {
    this.mode = mode;
    fillBar(this);
  }
  click({ x, y }, label) {
    const { width, height } = this.image;
    if (x < 0 || y < 0 || x > width || y > height) return;
    const objects = structuredClone(this.prompts.objects);
    const selected = objects.length ? Math.max(this.prompts.selected, 0) : 0;
    objects[selected] ??= { box: null, points: [] };
    objects[selected].points.push({ x: Math.round(x * 10) / 10, y: Math.round(y * 10) / 10, label });
    this.change({ objects, selected });
  }
  cancel() {
    if (this.drag?.was) this.prompts = this.drag.before;
    this.drag = null;
    this.paint();
  }

  look(view) {
    this.view = held(view, this.image);
    this.paint();
  }
  zoom(factor, x, y) {
    const panel = this.size();
    this.look(zoomAt(this.view, panel, this.image, x ?? panel.width / 2, y ?? panel.height / 2, factor));
  }
  // Slices asked for in quick succession are told to Python once, when the wheel rests for a moment.
  go(steps) {
    const { slice } = this.data;
    if (!slice || slice.count < 2) return;
    this.asked.want(Math.min(Math.max(this.asked.current + steps, 0), slice.count - 1));
    const label = this.bar.querySelector(".slice");
    if (label) label.textContent = `slice ${this.asked.current + 1} of ${slice.count}`;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      const index = this.asked.tell();
      if (index !== null) this.event({ index, epoch: this.epoch });
    }, 70);
  }
  wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const place = this.panels[0] && event.target.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 400), event.clientX - place.left, event.clientY - place.top);
    } else if (this.data.slice && this.data.slice.count > 1) {
      event.preventDefault();
      const { steps, rest } = wheelSteps(this.turned + event.deltaY * (event.deltaMode === 1 ? 34 : 1));
      this.turned = rest;
      if (steps) this.go(steps);
    }
  }
}

export default function show({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".dq");
  const picture = (root.picture ??= new Picture(root));
  picture.update(
    data,
    telling(setStateValue, "prompts"),
    telling(setStateValue, "slice"),
    telling(setStateValue, "missing")
  );
}
