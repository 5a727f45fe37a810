// The buttons above the panels, and the list of keys behind the question mark.
import { button, element } from "./elements.mjs";
import { whole } from "./geometry.mjs";

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

/** Fill the bar and the help of a picture with what can be done now. */
export function fillBar(picture) {
  const { data } = picture;
  const act = (name, label, title, does, state) => button(name, label, title, () => does() || picture.root.focus(), state);
  const mode = (name, label, title) => act(name, label, title, () => picture.choose(name), { on: picture.mode === name });
  const gap = () => element("span", { className: "gap" });
  const modes = [mode("box", "Box", "draw a box (B)"), mode("positive", "Click +", "inside the object (P)"), mode("negative", "Click −", "outside the object (N)"), gap()];
  const slices = data.slice && data.slice.count > 1;
  const steps = slices
    ? [act("previous", "‹", "previous slice (↑)", () => picture.go(-1)), element("span", { className: "slice", textContent: `slice ${picture.asked.current + 1} of ${data.slice.count}` }), act("next", "›", "next slice (↓)", () => picture.go(1)), gap()]
    : [];
  const none = { disabled: !picture.prompts.objects.length };
  picture.bar.replaceChildren(
    ...(data.points ? modes : []),
    act("undo", "Undo", "undo (Ctrl + Z)", () => picture.undo(), { disabled: !picture.past.length }),
    act("remove", "Remove", "remove the selected object (Delete)", () => picture.remove(), none),
    act("clear", "Clear", "remove all objects of this slice", () => picture.change({ objects: [], selected: -1 }), none),
    element("span", { className: "space" }),
    ...steps,
    act("out", "−", "zoom out (−)", () => picture.zoom(1 / 1.25)),
    act("whole", "Fit", "whole picture (0)", () => picture.look(whole(picture.image))),
    act("in", "+", "zoom in (+)", () => picture.zoom(1.25)),
    act("help", "?", "mouse and keys", () => void picture.help.classList.toggle("open"))
  );
  const rows = data.points ? [...KEYS, POINT_KEYS] : KEYS;
  picture.help.replaceChildren(...rows.flatMap(([keys, words]) => [element("kbd", { textContent: keys }), element("span", { textContent: words })]));
}
