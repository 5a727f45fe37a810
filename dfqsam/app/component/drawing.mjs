// What one panel shows: the picture, masks, prompts, letters of orientation and a scale bar. Draws, and keeps nothing.
import { boundsOfRuns, cropped, decodeRuns, handles, outline, scaleBar, toPanel, transform } from "./geometry.mjs";

const BOX = "#ffffff";
const INSIDE = "#009e73";
const OUTSIDE = "#d55e00";

/** A mask made ready to draw: its outline, and its area as a canvas in its colour. */
export function prepared(layer, width, height) {
  const style = { colour: layer.colour, always: layer.filled, strong: layer.strong, line: layer.line, dash: layer.dashed ? [7, 7] : [] };
  const bounds = boundsOfRuns(layer.runs, width);
  const path = new Path2D();
  if (!bounds) return { area: null, path, ...style };
  const mask = cropped(decodeRuns(layer.runs, width, height), width, bounds); // what is empty costs nothing
  const area = new OffscreenCanvas(bounds.width, bounds.height);
  const pixels = new ImageData(bounds.width, bounds.height);
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(layer.colour.slice(i, i + 2), 16));
  for (let i = 0; i < mask.length; i++) if (mask[i]) pixels.data.set([r, g, b, 255], 4 * i);
  area.getContext("2d").putImageData(pixels, 0, 0);
  for (const [x0, y0, x1, y1] of outline(mask, bounds.width, bounds.height)) {
    path.moveTo(bounds.x + x0, bounds.y + y0);
    path.lineTo(bounds.x + x1, bounds.y + y1);
  }
  return { area, bounds, path, ...style };
}

function stroke(pen, path, colour, width, dash = []) {
  pen.setLineDash(dash);
  pen.lineJoin = pen.lineCap = "round";
  pen.strokeStyle = "rgba(0, 0, 0, 0.6)"; // a halo, so that a line is seen on bright and dark tissue alike
  pen.lineWidth = width + 2;
  pen.stroke(path);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke(path);
  pen.setLineDash([]);
}

function masks(pen, t, layers, grid, image, style, faded) {
  const matrix = new DOMMatrix([(t.sx * image.width) / grid.width, 0, 0, (t.sy * image.height) / grid.height, t.tx, t.ty]);
  const [wide, high] = [matrix.a, matrix.d]; // of a pixel of the grid on the panel
  for (const { area, bounds, always, strong, line } of layers) {
    if (!area || line || (style.mode !== "fill" && !always)) continue;
    // Where the masks differ is what is looked for: a rim of one pixel has to be seen, however faint areas are.
    pen.globalAlpha = (strong ? 0.95 : style.opacity) * (faded ? 0.4 : 1);
    pen.drawImage(area, t.tx + bounds.x * wide, t.ty + bounds.y * high, bounds.width * wide, bounds.height * high);
  }
  pen.globalAlpha = faded ? 0.4 : 1;
  for (const { path, colour, always, dash, line } of layers) {
    if (always) continue;
    const placed = new Path2D();
    placed.addPath(path, matrix);
    stroke(pen, placed, colour, line ? 1.5 : 2, dash);
  }
  pen.globalAlpha = 1;
}

function mark(pen, x, y, positive) {
  const path = new Path2D();
  path.arc(x, y, 6, 0, 2 * Math.PI);
  stroke(pen, path, "#ffffff", 2);
  pen.fillStyle = positive ? INSIDE : OUTSIDE;
  pen.fill(path);
  const sign = new Path2D(positive ? `M${x - 3} ${y}h6M${x} ${y - 3}v6` : `M${x - 3} ${y}h6`);
  pen.strokeStyle = "#ffffff";
  pen.lineWidth = 1.5;
  pen.stroke(sign);
}

function prompts(pen, t, objects, selected, numbered) {
  objects.forEach(({ box, points }, index) => {
    const current = index === selected;
    if (box) {
      const [a, b] = [toPanel(t, box[0], box[1]), toPanel(t, box[2], box[3])];
      const frame = new Path2D();
      frame.rect(a.x, a.y, b.x - a.x, b.y - a.y);
      stroke(pen, frame, BOX, current ? 1.5 : 1, current ? [] : [5, 4]);
      if (numbered) text(pen, `${index + 1}`, a.x + 4, a.y - 9, "left");
      const roomy = b.x - a.x > 40 && b.y - a.y > 40;
      if (current)
        for (const [name, place] of Object.entries(handles(box))) {
          if (name === "c" && !roomy) continue;
          const { x, y } = toPanel(t, ...place);
          const knob = new Path2D();
          if (name === "c") knob.arc(x, y, 4, 0, 2 * Math.PI);
          else knob.rect(x - 4, y - 4, 8, 8);
          stroke(pen, knob, BOX, 1);
          pen.fillStyle = name === "c" ? "rgba(255, 255, 255, 0.55)" : BOX;
          pen.fill(knob);
        }
    }
    for (const point of points) {
      const { x, y } = toPanel(t, point.x, point.y);
      mark(pen, x, y, point.label === 1);
    }
  });
}

export function text(pen, words, x, y, align = "center") {
  pen.font = "600 13px sans-serif";
  pen.textAlign = align;
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.strokeStyle = "rgba(0, 0, 0, 0.75)";
  pen.strokeText(words, x, y);
  pen.fillStyle = "#ffffff";
  pen.fillText(words, x, y);
}

function ruler(pen, t, panel, mm) {
  const { mm: length, pixels } = scaleBar(mm / t.sx);
  const [x, y] = [14, panel.height - 14];
  const path = new Path2D(`M${x} ${y - 4}v4h${pixels}v-4`);
  stroke(pen, path, "#ffffff", 1.5);
  text(pen, length >= 10 && length % 10 === 0 ? `${length / 10} cm` : `${length} mm`, x + pixels / 2, y - 12);
}

export function letters(pen, panel, sides) {
  text(pen, sides.left, 12, panel.height / 2);
  text(pen, sides.right, panel.width - 12, panel.height / 2);
  text(pen, sides.top, panel.width / 2, 13);
  text(pen, sides.bottom, panel.width / 2, panel.height - 13);
}

/** Draws a panel; `scene` is all that is shown in it, `scale` the device's pixels a CSS pixel. */
export function draw(canvas, panel, scene, scale) {
  const { view, image, grid, picture, layers, style, objects, selected, sides, mm, cross, lines, faded, hidden } = scene;
  canvas.width = Math.round(panel.width * scale);
  canvas.height = Math.round(panel.height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  const t = transform(view, panel, image);
  pen.imageSmoothingEnabled = t.sx * (image.width / grid.width) < 3; // magnified, every pixel is seen as it is
  pen.imageSmoothingQuality = "high";
  if (picture) pen.drawImage(picture, t.tx, t.ty, image.width * t.sx, image.height * t.sy);
  pen.imageSmoothingEnabled = false;
  if (!hidden) {
    masks(pen, t, layers, grid, image, style, faded);
    prompts(pen, t, objects, selected, objects.length > 1);
  }
  if (lines) {
    // Through the point, with a gap around it so that it is not hidden.
    const { x, y } = lines;
    stroke(pen, new Path2D(`M0 ${y}H${x - 9}M${x + 9} ${y}H${panel.width}M${x} 0V${y - 9}M${x} ${y + 9}V${panel.height}`), "rgba(255, 255, 255, 0.75)", 1);
  }
  if (sides) letters(pen, panel, sides);
  if (mm) ruler(pen, t, panel, mm);
  if (cross) {
    const { x, y } = toPanel(t, cross.x, cross.y);
    stroke(pen, new Path2D(`M${x - 8} ${y}h5M${x + 3} ${y}h5M${x} ${y - 8}v5M${x} ${y + 3}v5`), "#ffffff", 1);
  }
}
