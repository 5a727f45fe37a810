// Surfaces of triangles, turned and shaded into a picture: plain arithmetic with a depth for each pixel, so that it looks
// the same on every machine, with a graphics card or without.

const LIGHT = [0.28, 0.42, 0.864]; // from the viewer's upper right; x to the right, y up, z towards the viewer
const AMBIENT = 0.22;

/** Bytes of a base64 text. */
export function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** A mesh as Python packs it: vertices in mm around the centre, normals, triangles, and a colour for each vertex. */
export function unpacked({ vertices, normals, faces, shades, step }) {
  const place = Float32Array.from(new Int16Array(bytes(vertices).buffer), (value) => value * step);
  const normal = Float32Array.from(new Int8Array(bytes(normals).buffer), (value) => value / 127);
  return { place, normal, faces: new Uint32Array(bytes(faces).buffer), shades: shades ? bytes(shades) : null };
}

export const FRONT = [-1, 0, 0, 0, 0, 1, 0, 1, 0]; // rows: right (patient's left), up (head), towards the viewer (front)
export const FLAT = [1, 0, 0, 0, -1, 0, 0, 0, -1]; // as a slice is shown, where nobody knows how the patient lies
export const VIEWS = {
  Front: FRONT,
  Back: [1, 0, 0, 0, 0, 1, 0, -1, 0],
  Right: [0, 1, 0, 0, 0, 1, 1, 0, 0],
  Left: [0, -1, 0, 0, 0, 1, -1, 0, 0],
  Top: [-1, 0, 0, 0, -1, 0, 0, 0, 1],
  Below: [-1, 0, 0, 0, 1, 0, 0, 0, -1],
};

const times = (a, b) => Array.from({ length: 9 }, (_, i) => a[3 * Math.floor(i / 3)] * b[i % 3] + a[3 * Math.floor(i / 3) + 1] * b[3 + (i % 3)] + a[3 * Math.floor(i / 3) + 2] * b[6 + (i % 3)]);

/** A rotation followed by one around the screen's axes: `across` about the vertical, `down` about the horizontal (radians). */
export function turned(rotation, across, down) {
  const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(down), Math.sin(down)];
  return times([1, 0, 0, 0, d, -t, 0, t, d], times([c, 0, s, 0, 1, 0, -s, 0, c], rotation));
}

/** A vector of the patient on the screen: to the right, up, towards the viewer. */
export const seen = (r, [x, y, z]) => [0, 3, 6].map((i) => r[i] * x + r[i + 1] * y + r[i + 2] * z);

/**
 * Shade a mesh into `pixels` (RGBA, width x height), nearer triangles over farther ones.
 *
 * @param colours one [r, g, b], or a list of 256 that the mesh's shades point into
 * @param scale pixels a mm
 */
export function render(pixels, width, height, mesh, rotation, scale, colours) {
  const { place, normal, faces, shades } = mesh;
  const count = place.length / 3;
  const screen = new Float32Array(3 * count);
  const light = new Float32Array(count);
  const lamp = [0, 1, 2].map((i) => LIGHT[0] * rotation[i] + LIGHT[1] * rotation[3 + i] + LIGHT[2] * rotation[6 + i]); // as the patient sees it
  for (let v = 0, i = 0; v < count; v++, i += 3) {
    const [x, y, z] = [place[i], place[i + 1], place[i + 2]];
    screen[i] = width / 2 + (rotation[0] * x + rotation[1] * y + rotation[2] * z) * scale;
    screen[i + 1] = height / 2 - (rotation[3] * x + rotation[4] * y + rotation[5] * z) * scale;
    screen[i + 2] = (rotation[6] * x + rotation[7] * y + rotation[8] * z) * scale;
    const facing = normal[i] * lamp[0] + normal[i + 1] * lamp[1] + normal[i + 2] * lamp[2];
    light[v] = AMBIENT + (1 - AMBIENT) * Math.max(0, facing);
  }
  const depth = new Float32Array(width * height).fill(-Infinity);
  for (let f = 0; f < faces.length; f += 3) {
    const [p, q, r] = [faces[f], faces[f + 1], faces[f + 2]];
    const ax = screen[3 * p], ay = screen[3 * p + 1], bx = screen[3 * q], by = screen[3 * q + 1], cx = screen[3 * r], cy = screen[3 * r + 1]; // prettier-ignore
    const area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay);
    if (area >= 0) continue; // seen from behind (y runs down on the screen), or edge-on
    const [left, right] = [Math.max(0, Math.ceil(Math.min(ax, bx, cx) - 0.5)), Math.min(width - 1, Math.floor(Math.max(ax, bx, cx) - 0.5))];
    const [top, bottom] = [Math.max(0, Math.ceil(Math.min(ay, by, cy) - 0.5)), Math.min(height - 1, Math.floor(Math.max(ay, by, cy) - 0.5))];
    for (let y = top; y <= bottom; y++)
      for (let x = left; x <= right; x++) {
        const px = x + 0.5, py = y + 0.5; // prettier-ignore
        const u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) / area;
        const w = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) / area;
        const rest = 1 - u - w;
        if (u < 0 || w < 0 || rest < 0) continue;
        const z = u * screen[3 * p + 2] + w * screen[3 * q + 2] + rest * screen[3 * r + 2];
        const at = y * width + x;
        if (z <= depth[at]) continue;
        depth[at] = z;
        const bright = u * light[p] + w * light[q] + rest * light[r];
        const colour = shades ? colours[Math.round(u * shades[p] + w * shades[q] + rest * shades[r])] : colours;
        pixels[4 * at] = colour[0] * bright;
        pixels[4 * at + 1] = colour[1] * bright;
        pixels[4 * at + 2] = colour[2] * bright;
        pixels[4 * at + 3] = 255;
      }
  }
}

/** 256 colours that run evenly through the given ones. */
export function ramp(stops) {
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    return [0, 1, 2].map((c) => stops[low][c] + (at - low) * (stops[low + 1][c] - stops[low][c]));
  });
}
