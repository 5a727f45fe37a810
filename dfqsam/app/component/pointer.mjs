// What mouse and pen do to a panel of a picture: boxes drawn and corrected, clicks, and moving the picture.
import { boxBetween, held, hitObject, moved, toImage, transform } from "./geometry.mjs";

const CURSORS = { nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", n: "ns-resize", s: "ns-resize", w: "ew-resize", e: "ew-resize", c: "move" };
const LEAST = 3; // CSS pixels a side, below which a drag was none

export function listen(picture, canvas) {
  const at = (event) => {
    const place = canvas.getBoundingClientRect();
    const t = transform(picture.view, picture.size(), picture.image);
    return { t, ...toImage(t, event.clientX - place.left, event.clientY - place.top) };
  };
  const found = (here) => hitObject(picture.prompts.objects, picture.prompts.selected, here.x, here.y, { x: 8 / here.t.sx, y: 8 / here.t.sy });
  canvas.addEventListener("pointerdown", (event) => {
    picture.root.focus({ preventScroll: true });
    if (!picture.data.boxes && !picture.data.points) return;
    const start = at(event);
    const pan = event.button === 1 || (event.button === 0 && picture.space);
    if (!pan && event.button !== 0) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    if (pan) picture.drag = { start, view: picture.view };
    else if (picture.mode !== "box") picture.click(start, picture.mode === "positive" ? 1 : 0);
    else begin(picture, start, found(start));
    picture.paint();
  });
  canvas.addEventListener("pointermove", (event) => {
    const here = at(event);
    picture.cross = { x: here.x, y: here.y, panel: picture.panels.findIndex((panel) => panel.canvas === canvas) };
    if (picture.drag) follow(picture, here, event, canvas);
    else {
      const part = picture.mode === "box" && found(here);
      canvas.style.cursor = picture.space ? "grab" : part ? CURSORS[part.part] : "crosshair";
    }
    picture.paint();
  });
  canvas.addEventListener("pointerup", () => end(picture));
  canvas.addEventListener("pointercancel", () => picture.cancel());
  canvas.addEventListener("pointerleave", () => {
    picture.cross = null;
    picture.paint();
  });
}

function begin(picture, start, found) {
  if (!found) {
    picture.drag = { start, fresh: true };
    return;
  }
  picture.drag = { start, ...found, was: picture.prompts.objects[found.index].box, before: structuredClone(picture.prompts) };
  picture.prompts.selected = found.index;
}

function follow(picture, here, event, canvas) {
  const { drag, image, prompts } = picture;
  if (drag.view) {
    const place = canvas.getBoundingClientRect();
    const spot = toImage(drag.start.t, event.clientX - place.left, event.clientY - place.top);
    picture.view = held({ ...drag.view, x: drag.view.x - (spot.x - drag.start.x), y: drag.view.y - (spot.y - drag.start.y) }, image);
  } else if (drag.fresh) drag.box = boxBetween(drag.start, here, image);
  else prompts.objects[drag.index] = { ...prompts.objects[drag.index], box: moved(drag.was, drag.part, here.x - drag.start.x, here.y - drag.start.y, image) };
}

function end(picture) {
  const { drag, prompts } = picture;
  picture.drag = null;
  const large = (box, t) => (box[2] - box[0]) * t.sx > LEAST && (box[3] - box[1]) * t.sy > LEAST;
  if (drag?.fresh && drag.box && large(drag.box, drag.start.t)) {
    const objects = [...prompts.objects, { box: drag.box, points: [] }];
    picture.change({ objects, selected: objects.length - 1 });
  } else if (drag?.was && String(drag.was) !== String(prompts.objects[drag.index].box)) {
    picture.past.push(drag.before);
    picture.change(prompts, false);
  } else if (drag?.was && drag.before.selected !== prompts.selected) picture.change(prompts, false);
  else picture.paint();
}
