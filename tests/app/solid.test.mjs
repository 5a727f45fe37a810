// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FLAT, FRONT, VIEWS, ramp, render, seen, turned, unpacked } from "../../dfqsam/app/component/solid.mjs";

const close = (a, b) => a.forEach((value, i) => assert.ok(Math.abs(value - b[i]) < 1e-9, `${a} is not ${b}`));
const [L, A, S] = [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]; // left, front, head, in RAS

test("the patient's left is on the right, the head up, and the front towards the viewer", () => {
  close(seen(FRONT, L), [1, 0, 0]);
  close(seen(FRONT, S), [0, 1, 0]);
  close(seen(FRONT, A), [0, 0, 1]);
  close(seen(VIEWS.Back, L), [-1, 0, 0]);
  close(seen(VIEWS.Left, L), [0, 0, 1]);
  close(seen(VIEWS.Left, A), [-1, 0, 0]);
  close(seen(VIEWS.Right, L), [0, 0, -1]);
  close(seen(VIEWS.Top, S), [0, 0, 1]);
  close(seen(VIEWS.Below, S), [0, 0, -1]);
  close(seen(FLAT, [0, 1, 0]), [0, -1, 0]); // rows run down
});

test("all views are rotations: no mirror image", () => {
  for (const r of [FLAT, ...Object.values(VIEWS)]) {
    const [a, b, c] = [r.slice(0, 3), r.slice(3, 6), r.slice(6)];
    const cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    close(cross, c);
  }
});

test("a drag to the right turns the front to the right, one downwards turns it down", () => {
  close(seen(turned(FRONT, Math.PI / 2, 0), A), [1, 0, 0]);
  close(seen(turned(FRONT, 0, Math.PI / 2), A), [0, -1, 0]);
  close(seen(turned(turned(FRONT, 0.4, 0), -0.4, 0), L), [1, 0, 0]);
});

const identity = [1, 0, 0, 0, 1, 0, 0, 0, 1];
const facing = (z, shade) => ({
  place: Float32Array.from([-2, -2, z, 2, -2, z, 2, 2, z, -2, 2, z]),
  normal: Float32Array.from([0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]),
  faces: Uint32Array.from([0, 1, 2, 0, 2, 3]),
  shades: shade === undefined ? null : Uint8Array.from([shade, shade, shade, shade]),
});
const at = (pixels, x, y) => [...pixels.slice(4 * (y * 8 + x), 4 * (y * 8 + x) + 4)];

test("a square of 4 mm at a pixel a mm covers 16 pixels, and nothing else is touched", () => {
  const pixels = new Uint8ClampedArray(4 * 64);
  render(pixels, 8, 8, facing(0), identity, 1, [100, 200, 50]);
  let filled = 0;
  for (let i = 3; i < pixels.length; i += 4) filled += pixels[i] === 255;
  assert.equal(filled, 16);
  assert.equal(at(pixels, 1, 4)[3], 0);
  const bright = 0.22 + 0.78 * 0.864; // the light's share towards the viewer
  assert.deepEqual(at(pixels, 4, 4), [100, 200, 50].map((c) => Math.round(c * bright)).concat(255));
});

test("the nearer one is seen, whichever comes first, and backs are not drawn", () => {
  const mesh = (order) => {
    const [one, two] = order.map(([z, shade]) => facing(z, shade));
    return { place: Float32Array.from([...one.place, ...two.place]), normal: Float32Array.from([...one.normal, ...two.normal]), faces: Uint32Array.from([...one.faces, ...[...two.faces].map((i) => i + 4)]), shades: Uint8Array.from([...one.shades, ...two.shades]) };
  };
  const colours = ramp([[0, 0, 0], [255, 255, 255]]);
  const [far, near] = [[-1, 10], [1, 200]];
  for (const order of [[far, near], [near, far]]) {
    const pixels = new Uint8ClampedArray(4 * 64);
    render(pixels, 8, 8, mesh(order), identity, 1, colours);
    assert.ok(at(pixels, 4, 4)[0] > 150);
  }
  const pixels = new Uint8ClampedArray(4 * 64);
  render(pixels, 8, 8, facing(0), VIEWS.Front.map((_, i) => [-1, 0, 0, 0, 1, 0, 0, 0, -1][i]), 1, [9, 9, 9]);
  assert.ok(pixels.every((value) => value === 0));
});

test("colours run evenly through their stops", () => {
  const colours = ramp([[0, 0, 0], [100, 0, 0], [100, 255, 0]]);
  assert.equal(colours.length, 256);
  close(colours[0], [0, 0, 0]);
  close(colours[255], [100, 255, 0]);
  assert.ok(Math.abs(colours[128][0] - 100) < 1e-9 && colours[128][1] < 2);
});

test("a mesh as Python packs it", () => {
  const text = (array) => Buffer.from(array.buffer).toString("base64");
  const mesh = unpacked({ vertices: text(Int16Array.from([2, -4, 6])), normals: text(Int8Array.from([127, 0, -127])), faces: text(Uint32Array.from([0, 0, 0])), shades: text(Uint8Array.from([7])), step: 0.5 });
  assert.deepEqual([...mesh.place], [1, -2, 3]);
  assert.deepEqual([...mesh.normal], [1, 0, -1]);
  assert.deepEqual([[...mesh.faces], [...mesh.shades]], [[0, 0, 0], [7]]);
});
