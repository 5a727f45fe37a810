// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as g from "../../dfqsam/app/component/geometry.mjs";

const image = { width: 100, height: 50, aspect: 2 }; // pixels twice as high as wide: 100 x 100 on the screen
const panel = { width: 400, height: 300 };

test("run lengths fill rows one after the other", () => {
  assert.deepEqual([...g.decodeRuns([2, 3, 1], 3, 2)], [0, 0, 1, 1, 1, 0]);
  assert.deepEqual([...g.decodeRuns([0, 4], 2, 2)], [1, 1, 1, 1]);
  assert.deepEqual([...g.decodeRuns([], 1, 2)], [0, 0]);
});

test("the outline of two pixels side by side is four joined segments", () => {
  const mask = g.decodeRuns([5, 2, 5], 4, 3); // (1, 1) and (2, 1)
  const lines = g.outline(mask, 4, 3).map(String).sort();
  assert.deepEqual(lines, ["1,1,1,2", "1,1,3,1", "1,2,3,2", "3,1,3,2"].sort());
});

test("the outline follows the picture's edge and holes", () => {
  const full = g.outline(new Uint8Array(9).fill(1), 3, 3).map(String).sort();
  assert.deepEqual(full, ["0,0,0,3", "0,0,3,0", "0,3,3,3", "3,0,3,3"].sort());
  const ring = new Uint8Array(9).fill(1);
  ring[4] = 0;
  assert.equal(g.outline(ring, 3, 3).length, 8);
  assert.equal(g.outline(new Uint8Array(9), 3, 3).length, 0);
});

test("a picture fits into its panel with the aspect of its pixels", () => {
  assert.deepEqual(g.fit(panel, image), { x: 3, y: 6 });
  assert.deepEqual(g.fit({ width: 100, height: 900 }, image), { x: 1, y: 2 });
});

test("from image to panel and back", () => {
  const t = g.transform({ zoom: 2, x: 30, y: 20 }, panel, image);
  assert.deepEqual(t, { sx: 6, sy: 12, tx: 20, ty: -90 });
  assert.deepEqual(g.toPanel(t, 30, 20), { x: 200, y: 150 });
  const { x, y } = g.toPanel(t, 12.5, 7.25);
  assert.deepEqual(g.toImage(t, x, y), { x: 12.5, y: 7.25 });
});

test("what is under the pointer stays there while zooming", () => {
  let view = g.whole(image);
  for (const factor of [1.5, 1.5, 0.8, 2]) {
    const before = g.toImage(g.transform(view, panel, image), 260, 170);
    view = g.zoomAt(view, panel, image, 260, 170, factor);
    const after = g.toImage(g.transform(view, panel, image), 260, 170);
    assert.ok(Math.abs(before.x - after.x) < 1e-9 && Math.abs(before.y - after.y) < 1e-9);
  }
  assert.deepEqual(g.zoomAt(view, panel, image, 0, 0, 1e-6), g.whole(image));
  assert.equal(g.zoomAt(view, panel, image, 0, 0, 1e6).zoom, 40);
});

test("the centre of a view never leaves the picture", () => {
  assert.deepEqual(g.held({ zoom: 3, x: -50, y: 999 }, image), { zoom: 3, x: 0, y: 50 });
});

test("a box is drawn from any corner, in whole pixels, inside the picture", () => {
  const box = [10, 5, 40, 25];
  for (const [a, b] of [[[10.2, 5.4], [39.6, 24.8]], [[39.6, 24.8], [10.2, 5.4]], [[10.2, 24.8], [39.6, 5.4]]])
    assert.deepEqual(g.boxBetween({ x: a[0], y: a[1] }, { x: b[0], y: b[1] }, image), box);
  assert.deepEqual(g.boxBetween({ x: -9, y: -9 }, { x: 999, y: 999 }, image), [0, 0, 100, 50]);
  assert.equal(g.boxBetween({ x: 5, y: 5 }, { x: 5.3, y: 40 }, image), null);
  assert.equal(g.boxBetween({ x: -9, y: 3 }, { x: -2, y: 40 }, image), null);
});

test("handles, sides and the middle are found; the inside is free for a new box", () => {
  const box = [10, 5, 50, 45];
  const near = { x: 2, y: 2 };
  const places = { nw: [11, 6], ne: [49, 4], sw: [9, 46], se: [51, 46], n: [30, 5], s: [18, 44], w: [10, 12], e: [50, 33], c: [31, 24] };
  for (const [part, [x, y]] of Object.entries(places)) assert.equal(g.hit(box, x, y, near), part);
  assert.equal(g.hit(box, 20, 20, near), null);
  assert.equal(g.hit(box, 60, 20, near), null);
  assert.equal(g.hit([10, 10, 14, 14], 12, 12, near), "nw", "a small box has no middle that hides its corners");
});

test("the selected object is edited before those drawn over it", () => {
  const objects = [{ box: [0, 0, 20, 20] }, { box: [20, 0, 40, 20] }, { box: null }];
  const near = { x: 2, y: 2 };
  assert.deepEqual(g.hitObject(objects, 0, 20, 6, near), { index: 0, part: "e" });
  assert.deepEqual(g.hitObject(objects, 1, 20, 6, near), { index: 1, part: "w" });
  assert.deepEqual(g.hitObject(objects, -1, 20, 6, near), { index: 1, part: "w" });
  assert.equal(g.hitObject(objects, 2, 90, 40, near), null);
});

test("sides move, pass each other and stop at the picture's edge", () => {
  const box = [10, 5, 40, 25];
  assert.deepEqual(g.moved(box, "nw", 3, -2, image), [13, 3, 40, 25]);
  assert.deepEqual(g.moved(box, "e", 5, 17, image), [10, 5, 45, 25]);
  assert.deepEqual(g.moved(box, "w", 50, 0, image), [40, 5, 60, 25]);
  assert.deepEqual(g.moved(box, "s", 0, 999, image), [10, 5, 40, 50]);
  assert.deepEqual(g.moved(box, "e", -30, 0, image), box, "a box never becomes empty");
});

test("a box that is moved as a whole keeps its size", () => {
  const box = [10, 5, 40, 25];
  assert.deepEqual(g.moved(box, "c", 2.4, 3.6, image), [12, 9, 42, 29]);
  assert.deepEqual(g.moved(box, "c", -99, 99, image), [0, 30, 30, 50]);
});

test("a wheel gives whole slices and keeps the rest", () => {
  assert.deepEqual(g.wheelSteps(250), { steps: 2, rest: 50 });
  assert.deepEqual(g.wheelSteps(-120), { steps: -1, rest: -20 });
  assert.equal(g.wheelSteps(40).steps, 0);
});

test("scale bars are 1, 2 or 5 times a power of ten", () => {
  assert.deepEqual(g.scaleBar(1.4, 90), { mm: 100, pixels: 100 / 1.4 });
  assert.deepEqual(g.scaleBar(0.5, 90), { mm: 20, pixels: 40 });
  assert.deepEqual(g.scaleBar(0.01, 90).mm, 0.5);
});

test("removing an object selects the last of the others", () => {
  const prompts = { objects: ["a", "b", "c"], selected: 1 };
  assert.deepEqual(g.without(prompts, 1), { objects: ["a", "c"], selected: 1 });
  assert.deepEqual(g.without({ objects: ["a"], selected: 0 }, 0), { objects: [], selected: -1 });
});

test("bounds of run lengths hold every one, and nothing more", () => {
  assert.deepEqual(g.boundsOfRuns([5, 2, 5], 4), { x: 1, y: 1, width: 2, height: 1 });
  assert.deepEqual(g.boundsOfRuns([2, 3, 1], 3), { x: 0, y: 0, width: 3, height: 2 });
  assert.deepEqual(g.boundsOfRuns([0, 1, 10, 1], 4), { x: 0, y: 0, width: 4, height: 3 });
  assert.equal(g.boundsOfRuns([12], 4), null);
});

test("the outline of the part within the bounds is that of the whole, moved", () => {
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let round = 0; round < 30; round++) {
    const counts = [];
    for (let left = 77; left > 0; ) {
      const n = Math.min(left, 1 + Math.floor(random() * 20));
      counts.push(n);
      left -= n;
    }
    const bounds = g.boundsOfRuns(counts, 11);
    const mask = g.decodeRuns(counts, 11, 7);
    if (!bounds) {
      assert.ok(mask.every((value) => value === 0));
      continue;
    }
    const part = g.outline(g.cropped(mask, 11, bounds), bounds.width, bounds.height);
    const moved = part.map(([a, b, c, d]) => `${a + bounds.x},${b + bounds.y},${c + bounds.x},${d + bounds.y}`).sort();
    assert.deepEqual(moved, g.outline(mask, 11, 7).map(String).sort());
  }
});
