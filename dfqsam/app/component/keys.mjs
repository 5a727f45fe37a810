// What the keyboard does to a picture.
import { moved, whole } from "./geometry.mjs";

const SLICES = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e6, End: 1e6 };
const NUDGES = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const MODES = { b: "box", p: "positive", n: "negative" };

/** Slices that a key goes on by, or nothing. */
export const slicesOf = (key) => SLICES[key];

export function keyDown(picture, event) {
  const { key } = event;
  const box = picture.prompts.objects[picture.prompts.selected]?.box;
  const mode = MODES[key.toLowerCase()];
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") picture.undo();
  else if (!plain) return;
  else if (key === "Escape") picture.cancel();
  else if (key === "Delete" || key === "Backspace") picture.remove();
  else if (key === "+" || key === "=") picture.zoom(1.25);
  else if (key === "-") picture.zoom(1 / 1.25);
  else if (key === "0") picture.look(whole(picture.image));
  else if (NUDGES[key] && event.shiftKey && box) {
    const objects = structuredClone(picture.prompts.objects);
    objects[picture.prompts.selected].box = moved(box, "c", ...NUDGES[key], picture.image);
    picture.change({ ...picture.prompts, objects });
  } else if (slicesOf(key) && picture.data.slice?.count > 1) picture.go(slicesOf(key));
  else if (mode && picture.data.points) picture.choose(mode);
  else if (key.toLowerCase() === "h" && !event.repeat) picture.hidden = true;
  else if (key === " " && event.target === picture.root) picture.space = true;
  else return;
  event.preventDefault();
  event.stopPropagation(); // else the page's own shortcuts hear it too
  picture.paint();
}

export function keyUp(picture, { key }) {
  if (key === " ") picture.space = false;
  if (key.toLowerCase() === "h") picture.hidden = false;
  picture.paint();
}
