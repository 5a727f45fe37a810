// Pure geometry of the picture component: no document, no window. Two frames: image pixels (x to the right, y down, a
// pixel covers [i, i + 1]) and panel pixels (CSS pixels from the panel's top-left corner).

/** Row-major run lengths, zeros first, as one byte a pixel. */
export function decodeRuns(counts, width, height) {
  const mask = new Uint8Array(width * height);
  let at = 0;
  counts.forEach((count, i) => {
    if (i % 2) mask.fill(1, at, at + count);
    at += count;
  });
  return mask;
}

/** The smallest rectangle that holds all ones of run lengths: x, y, width and height; null where there are none. */
export function boundsOfRuns(counts, width) {
  let [at, x0, y0, x1, y1] = [0, Infinity, Infinity, -1, -1];
  counts.forEach((count, i) => {
    if (i % 2 && count) {
      const [first, last] = [at, at + count - 1];
      const [top, bottom] = [Math.floor(first / width), Math.floor(last / width)];
      x0 = Math.min(x0, top === bottom ? first % width : 0);
      x1 = Math.max(x1, top === bottom ? last % width : width - 1);
      y0 = Math.min(y0, top);
      y1 = Math.max(y1, bottom);
    }
    at += count;
  });
  return x1 < 0 ? null : { x: x0, y: y0, width: x1 - x0 + 1, height: y1 - y0 + 1 };
}

/** The part of a row-major mask of `width` that lies in `bounds`. */
export function cropped(mask, width, bounds) {
  const part = new Uint8Array(bounds.width * bounds.height);
  for (let y = 0; y < bounds.height; y++) {
    const start = (bounds.y + y) * width + bounds.x;
    part.set(mask.subarray(start, start + bounds.width), y * bounds.width);
  }
  return part;
}

/** The outline of a mask along the edges of its pixels: segments [x0, y0, x1, y1], straight ones joined. */
export function outline(mask, width, height) {
  const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] === 1;
  const segments = [];
  const scan = (lines, length, differs, segment) => {
    for (let line = 0; line <= lines; line++) {
      let start = -1;
      for (let i = 0; i <= length; i++) {
        const edge = i < length && differs(line, i);
        if (edge && start < 0) start = i;
        if (!edge && start >= 0) {
          segments.push(segment(line, start, i));
          start = -1;
        }
      }
    }
  };
  scan(height, width, (y, x) => at(x, y) !== at(x, y - 1), (y, a, b) => [a, y, b, y]);
  scan(width, height, (x, y) => at(x, y) !== at(x - 1, y), (x, a, b) => [x, a, x, b]);
  return segments;
}

/** Panel pixels an image pixel, across and down, at zoom 1: the whole picture fits; `aspect` is a pixel's height by width. */
export function fit(panel, image) {
  const across = Math.min(panel.width / image.width, panel.height / (image.height * image.aspect));
  return { x: across, y: across * image.aspect };
}

/** From image to panel: panel = image * s + t. The view's centre (image pixels) lies in the middle of the panel. */
export function transform(view, panel, image) {
  const base = fit(panel, image);
  const [sx, sy] = [base.x * view.zoom, base.y * view.zoom];
  return { sx, sy, tx: panel.width / 2 - view.x * sx, ty: panel.height / 2 - view.y * sy };
}

export const toImage = (t, x, y) => ({ x: (x - t.tx) / t.sx, y: (y - t.ty) / t.sy });
export const toPanel = (t, x, y) => ({ x: x * t.sx + t.tx, y: y * t.sy + t.ty });

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export const whole = (image) => ({ zoom: 1, x: image.width / 2, y: image.height / 2 });

/** A zoom of 1 to 40 and a centre inside the picture. */
export function held(view, image) {
  const zoom = clamp(view.zoom, 1, 40);
  if (zoom === 1) return whole(image);
  return { zoom, x: clamp(view.x, 0, image.width), y: clamp(view.y, 0, image.height) };
}

/** Zoom by a factor; what lies at (x, y) of the panel stays there, unless the centre would leave the picture. */
export function zoomAt(view, panel, image, x, y, factor) {
  const spot = toImage(transform(view, panel, image), x, y);
  const zoom = clamp(view.zoom * factor, 1, 40);
  const after = transform({ ...view, zoom }, panel, image);
  const now = toPanel(after, spot.x, spot.y);
  return held({ zoom, x: view.x + (now.x - x) / after.sx, y: view.y + (now.y - y) / after.sy }, image);
}

/** The box between two corners in whole pixels, inside the picture; null where it has no width or no height. */
export function boxBetween(a, b, image) {
  const xs = [a.x, b.x].map((x) => clamp(Math.round(x), 0, image.width)).sort((p, q) => p - q);
  const ys = [a.y, b.y].map((y) => clamp(Math.round(y), 0, image.height)).sort((p, q) => p - q);
  return xs[0] < xs[1] && ys[0] < ys[1] ? [xs[0], ys[0], xs[1], ys[1]] : null;
}

/** Places of a box's handles, by the sides they move: corners, middles of sides, and c, which moves all of it. */
export function handles([x0, y0, x1, y1]) {
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  return { nw: [x0, y0], ne: [x1, y0], sw: [x0, y1], se: [x1, y1], n: [mx, y0], s: [mx, y1], w: [x0, my], e: [x1, my], c: [mx, my] };
}

/** What of a box lies under (x, y): a handle, else a side, else null. Tolerances in image pixels, across and down. */
export function hit(box, x, y, tolerance) {
  const near = (p, q, t) => Math.abs(p - q) <= t;
  const [x0, y0, x1, y1] = box;
  const roomy = x1 - x0 > 4 * tolerance.x && y1 - y0 > 4 * tolerance.y; // else the middle's handle hides the corners
  for (const [name, [hx, hy]] of Object.entries(handles(box)))
    if ((name !== "c" || roomy) && near(x, hx, tolerance.x) && near(y, hy, tolerance.y)) return name;
  const [inX, inY] = [x >= x0 && x <= x1, y >= y0 && y <= y1];
  if (inX && near(y, y0, tolerance.y)) return "n";
  if (inX && near(y, y1, tolerance.y)) return "s";
  if (inY && near(x, x0, tolerance.x)) return "w";
  if (inY && near(x, x1, tolerance.x)) return "e";
  return null;
}

/** The object to edit under (x, y): the selected one first, then the last drawn; {index, part} or null. */
export function hitObject(objects, selected, x, y, tolerance) {
  const order = [selected, ...objects.keys()].filter((i) => objects[i]?.box).sort((a, b) => (b === selected) - (a === selected) || b - a);
  for (const index of order) {
    const part = hit(objects[index].box, x, y, tolerance);
    if (part) return { index, part };
  }
  return null;
}

/** A box of which the sides named in `part` were moved by (dx, dy) image pixels; sides may pass each other. */
export function moved(box, part, dx, dy, image) {
  let [x0, y0, x1, y1] = box;
  if (part === "c") {
    dx = clamp(Math.round(dx), -x0, image.width - x1);
    dy = clamp(Math.round(dy), -y0, image.height - y1);
    return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
  }
  if (part.includes("w")) x0 += dx;
  if (part.includes("e")) x1 += dx;
  if (part.includes("n")) y0 += dy;
  if (part.includes("s")) y1 += dy;
  return boxBetween({ x: x0, y: y0 }, { x: x1, y: y1 }, image) ?? box;
}

/** Whole slices in what a wheel has turned so far (100 pixels or 3 lines each), and the rest. */
export function wheelSteps(turned) {
  const steps = Math.trunc(turned / 100);
  return { steps, rest: turned - steps * 100 };
}

/** A length of 1, 2 or 5 times a power of ten that takes about `pixels` on the screen; mm and pixels. */
export function scaleBar(mmPerPixel, pixels = 90) {
  const goal = mmPerPixel * pixels;
  const power = 10 ** Math.floor(Math.log10(goal));
  const mm = [5, 2, 1].map((n) => n * power).find((length) => length <= goal * 1.0000001);
  return { mm, pixels: mm / mmPerPixel };
}

/** The prompts after an object was taken out; the last one is selected then. */
export function without(prompts, index) {
  const objects = prompts.objects.filter((_, i) => i !== index);
  return { objects, selected: objects.length - 1 };
}
