// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { transform } from "../../dfqsam/app/component/geometry.mjs";
import { commonScale, viewAt } from "../../dfqsam/app/component/planes.mjs";

// 100 x 80 pixels of 2 x 1 mm (wide x high), and 100 x 10 of 2 x 4 mm.
const planes = [{ width: 100, height: 80, mm: 2, aspect: 0.5 }, { width: 100, height: 10, mm: 2, aspect: 2 }];
const panel = { width: 300, height: 160 };

test("one scale for all planes: the one at which the largest fits", () => {
  assert.equal(commonScale(panel, planes), 1.5); // 300 px for 200 mm; 160 px for 80 mm would be 2
});

test("a mm takes the same in every plane, across and down", () => {
  for (const plane of planes) {
    const t = transform(viewAt(panel, plane, 1.5, { x: 50, y: 5 }), panel, plane);
    assert.ok(Math.abs(t.sx - 1.5 * plane.mm) < 1e-9);
    assert.ok(Math.abs(t.sy - 1.5 * plane.mm * plane.aspect) < 1e-9);
  }
});
