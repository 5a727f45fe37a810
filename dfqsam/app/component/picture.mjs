// The picture component: panels in step, prompts drawn on them with mouse and keys, and what became of it for Python.
import { draw, prepared } from "./drawing.mjs";
import { boxBetween, held, hitObject, moved, toImage, transform, wheelSteps, whole, without, zoomAt } from "./geometry.mjs";

const KEYS = [
  ["drag", "draw a box; drag a corner, a side or the middle of the selected one to correct it"],
  ["wheel, ↑ ↓, Page Up Page Down", "previous and next slice (Page: ten at once)"],
  ["Ctrl + wheel, + −, 0", "zoom in and out, whole picture"],
  ["Space + drag, middle button", "move the picture"],
  ["Ctrl + Z", "undo"],
  ["Delete", "remove the selected object"],
  ["Shift + arrows", "move the selected box by a pixel"],
  ["H (held)", "hide masks and prompts"],
];
const POINT_KEYS = ["B, P, N", "draw boxes, click inside (+), click outside (−)"];
const CURSORS = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", n: "ns-resize", s: "ns-resize", w: "ew-resize", e: "ew-resize", c: "move" };

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

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
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("keyup", (event) => this.keyUp(event));
    root.addEventListener("blur", () => this.keyUp({ key: " " }) ?? this.keyUp({ key: "h" }));
    this.grid.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.watch = new ResizeObserver(() => this.paint());
    this.watch.observe(this.grid);
  }

  update(data, send, event) {
    Object.assign(this, { data, send, event });
    if (data.epoch !== this.epoch) {
      // Another slice or study: what Python keeps of it counts. On the same one, what is drawn here is ahead of Python.
      const sameSize = this.image && this.image.width === data.width && this.image.height === data.height;
      this.epoch = data.epoch;
      this.prompts = { objects: structuredClone(data.prompts.objects), selected: data.prompts.objects.length - 1 };
      this.revision = data.prompts.revision;
      Object.assign(this, { past: [], drag: null });
      if (!sameSize) this.view = null;
    }
    this.image = { width: data.width, height: data.height, aspect: data.aspect };
    this.view = held(this.view ?? whole(this.image), this.image);
    if (!data.points) this.mode = "box";
    if (this.source !== data.picture) {
      this.source = data.picture;
      const picture = new Image();
      picture.onload = () => {
        if (this.source === data.picture) Object.assign(this, { picture }) && this.paint();
      };
      picture.src = data.picture;
    }
    this.arrange();
    this.paint();
  }

  arrange() {
    const { data } = this;
    if (this.panels.length !== data.panels.length) {
      this.panels = data.panels.map(() => {
        const canvas = element("canvas");
        const title = element("figcaption");
        const frame = element("div", { className: "frame" }, canvas, element("div", { className: "waiting", textContent: "segmenting …" }));
        const panel = { canvas, title, frame, figure: element("figure", {}, title, frame) };
        this.listen(panel);
        return panel;
      });
      this.grid.replaceChildren(...this.panels.map((panel) => panel.figure));
    }
    data.panels.forEach((wanted, i) => {
      const swatches = wanted.legend.map(([colour, words]) => [element("i", { style: `background:${colour}` }), element("small", { textContent: words })]);
      this.panels[i].title.replaceChildren(element("span", { textContent: wanted.title }), ...swatches.flat());
      this.panels[i].layers = wanted.layers.map((layer) => prepared(layer, data.grid.width, data.grid.height));
    });
    const button = (name, label, title, act, on = false, disabled = false) =>
      Object.assign(element("button", { textContent: label, title, type: "button", onclick: () => act() || this.root.focus(), disabled, className: on ? "on" : "" }), { name });
    const mode = (name, label, title) => button(name, label, title, () => this.choose(name), this.mode === name);
    const gap = () => element("span", { className: "gap" });
    const slices = data.slice && data.slice.count > 1;
    const steps = slices
      ? [button("previous", "‹", "previous slice (↑)", () => this.go(-1)), element("span", { className: "slice", textContent: `slice ${data.slice.index + 1} of ${data.slice.count}` }), button("next", "›", "next slice (↓)", () => this.go(1)), gap()]
      : [];
    const { objects } = this.prompts;
    this.bar.replaceChildren(
      ...(data.points ? [mode("box", "Box", "draw a box (B)"), mode("positive", "Click +", "inside the object (P)"), mode("negative", "Click −", "outside the object (N)"), gap()] : []),
      button("undo", "Undo", "undo (Ctrl + Z)", () => this.undo(), false, !this.past.length),
      button("remove", "Remove", "remove the selected object (Delete)", () => this.remove(), false, !objects.length),
      button("clear", "Clear", "remove all objects of this slice", () => this.change({ objects: [], selected: -1 }), false, !objects.length),
      element("span", { className: "space" }), ...steps,
      button("out", "−", "zoom out (−)", () => this.zoom(1 / 1.25)), button("whole", "Fit", "whole picture (0)", () => this.look(whole(this.image))), button("in", "+", "zoom in (+)", () => this.zoom(1.25)),
      button("help", "?", "mouse and keys", () => void this.help.classList.toggle("open"))
    );
    const rows = data.points ? [...KEYS, POINT_KEYS] : KEYS;
    this.help.replaceChildren(...rows.flatMap(([keys, words]) => [element("kbd", { textContent: keys }), element("span", { textContent: words })]));
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
    this.arrange();
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
    this.arrange();
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
    const from = this.wanted ?? slice.index;
    this.wanted = Math.min(Math.max(from + steps, 0), slice.count - 1);
    const label = this.bar.querySelector(".slice");
    if (label) label.textContent = `slice ${this.wanted + 1} of ${slice.count}`;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      const index = this.wanted;
      this.wanted = null;
      if (index !== this.data.slice.index) this.event({ index, epoch: this.epoch });
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

  listen({ canvas }) {
    const at = (event) => {
      const place = canvas.getBoundingClientRect();
      const t = transform(this.view, this.size(), this.image);
      return { t, ...toImage(t, event.clientX - place.left, event.clientY - place.top) };
    };
    const reach = (t) => ({ x: 8 / t.sx, y: 8 / t.sy });
    canvas.addEventListener("pointerdown", (event) => {
      this.root.focus({ preventScroll: true });
      if (!this.data.boxes && !this.data.points) return;
      const start = at(event);
      const pan = event.button === 1 || (event.button === 0 && this.space);
      if (!pan && event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      const { objects, selected } = this.prompts;
      if (pan) this.drag = { start, view: this.view };
      else if (this.mode !== "box") this.click(start, this.mode === "positive" ? 1 : 0);
      else {
        const found = hitObject(objects, selected, start.x, start.y, reach(start.t));
        if (found) {
          this.drag = { start, ...found, was: objects[found.index].box, before: structuredClone(this.prompts) };
          this.prompts.selected = found.index;
        } else this.drag = { start, fresh: true };
      }
      this.paint();
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = at(event);
      const { drag } = this;
      this.cross = { x: here.x, y: here.y, panel: this.panels.findIndex((panel) => panel.canvas === canvas) };
      if (!drag) {
        const found = this.mode === "box" && hitObject(this.prompts.objects, this.prompts.selected, here.x, here.y, reach(here.t));
        canvas.style.cursor = this.space ? "grab" : found ? CURSORS[found.part] : "crosshair";
      } else if (drag.view) {
        const place = canvas.getBoundingClientRect();
        const spot = toImage(drag.start.t, event.clientX - place.left, event.clientY - place.top);
        this.view = held({ ...drag.view, x: drag.view.x - (spot.x - drag.start.x), y: drag.view.y - (spot.y - drag.start.y) }, this.image);
      } else if (drag.fresh) drag.box = boxBetween(drag.start, here, this.image);
      else this.prompts.objects[drag.index] = { ...this.prompts.objects[drag.index], box: moved(drag.was, drag.part, here.x - drag.start.x, here.y - drag.start.y, this.image) };
      this.paint();
    });
    const end = () => {
      const { drag } = this;
      this.drag = null;
      if (drag?.fresh && drag.box && (drag.box[2] - drag.box[0]) * drag.start.t.sx > 3 && (drag.box[3] - drag.box[1]) * drag.start.t.sy > 3) {
        const objects = [...this.prompts.objects, { box: drag.box, points: [] }];
        this.change({ objects, selected: objects.length - 1 });
      } else if (drag?.was && String(drag.was) !== String(this.prompts.objects[drag.index].box)) {
        this.past.push(drag.before);
        this.change(this.prompts, false);
      } else if (drag?.was && drag.before.selected !== this.prompts.selected) this.change(this.prompts, false);
      else this.paint();
    };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", () => this.cancel());
    canvas.addEventListener("pointerleave", () => {
      this.cross = null;
      this.paint();
    });
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

  key(event) {
    const { key } = event;
    const nudge = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[key];
    const box = this.prompts.objects[this.prompts.selected]?.box;
    const slices = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e6, End: 1e6 }[key];
    const modes = { b: "box", p: "positive", n: "negative" }[key.toLowerCase()];
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") this.undo();
    else if (!plain) return;
    else if (key === "Escape") this.cancel();
    else if (key === "Delete" || key === "Backspace") this.remove();
    else if (key === "+" || key === "=") this.zoom(1.25);
    else if (key === "-") this.zoom(1 / 1.25);
    else if (key === "0") this.look(whole(this.image));
    else if (nudge && event.shiftKey && box) {
      const objects = structuredClone(this.prompts.objects);
      objects[this.prompts.selected].box = moved(box, "c", ...nudge, this.image);
      this.change({ ...this.prompts, objects });
    } else if (slices && this.data.slice?.count > 1) this.go(slices);
    else if (modes && this.data.points) this.choose(modes);
    else if (key.toLowerCase() === "h" && !event.repeat) this.hidden = true;
    else if (key === " " && event.target === this.root) this.space = true;
    else return;
    event.preventDefault();
    event.stopPropagation(); // else the page's own shortcuts hear it too
    this.paint();
  }
  keyUp({ key }) {
    if (key === " ") this.space = false;
    if (key.toLowerCase() === "h") this.hidden = false;
    this.paint();
  }
}

export default function show({ data, parentElement, setStateValue, setTriggerValue }) {
  const root = parentElement.querySelector(".dq");
  const picture = (root.picture ??= new Picture(root));
  picture.update(data, (prompts) => setStateValue("prompts", prompts), (event) => setTriggerValue("slice", event));
}
