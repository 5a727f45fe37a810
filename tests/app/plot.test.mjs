// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest, plot, ticks } from "../../dfqsam/app/component/plot.mjs";

const frame = { x: 50, y: 10, width: 200, height: 100 };

test("slices run to the right, values up, and what is outside stays at the edge", () => {
  const { x, y } = plot(frame, { first: 4, last: 8 }, 0.5, 1);
  assert.deepEqual([x(4), x(6), x(8)], [50, 150, 250]);
  assert.deepEqual([y(0.5), y(0.75), y(1), y(0)], [110, 60, 10, 110]);
});

test("a single slice lies in the middle", () => {
  assert.equal(plot(frame, { first: 3, last: 3 }, 0, 1).x(3), 150);
});

test("ticks are round numbers inside, not too many", () => {
  assert.deepEqual(ticks(0.9, 1), [0.9, 0.95, 1]);
  assert.deepEqual(ticks(0, 1), [0, 0.5, 1]);
  assert.deepEqual(ticks(0, 137), [0, 50, 100]);
  assert.deepEqual(ticks(1, 24, 9), [5, 10, 15, 20]);
  assert.deepEqual(ticks(2, 2), [2]);
  for (const high of [0.013, 3, 77, 1234]) assert.ok(ticks(0, high).length <= 4);
});

test("a click means the nearest slice that has a point", () => {
  const span = { first: 4, last: 8 };
  assert.equal(nearest([5, 6, 8], frame, span, 0), 5);
  assert.equal(nearest([5, 6, 8], frame, span, 190), 6);
  assert.equal(nearest([5, 6, 8], frame, span, 230), 8);
});
