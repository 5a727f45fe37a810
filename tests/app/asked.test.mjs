// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Asked } from "../../dfqsam/app/component/asked.mjs";

function shown(index) {
  const asked = new Asked();
  asked.seen(index);
  return asked;
}

test("steps add up while the answer is not there yet", () => {
  const asked = shown(12);
  asked.want(asked.current + 1);
  assert.equal(asked.tell(), 13);
  asked.want(asked.current + 1); // before 13 has come
  assert.equal(asked.tell(), 14);
  asked.seen(13); // the answer to the first
  assert.equal(asked.current, 14);
  asked.want(asked.current + 1);
  assert.equal(asked.tell(), 15);
  asked.seen(14);
  asked.seen(15);
  assert.equal(asked.current, 15);
  asked.want(asked.current - 1);
  assert.equal(asked.tell(), 14);
});

test("a slice is told once, and none that is shown already", () => {
  const asked = shown(3);
  asked.want(4);
  assert.equal(asked.tell(), 4);
  assert.equal(asked.tell(), null);
  asked.want(3); // back before it came
  assert.equal(asked.tell(), 3);
  asked.seen(3);
  asked.want(3);
  assert.equal(asked.tell(), null);
  assert.equal(asked.current, 3);
});

test("a box drawn meanwhile shows the same slice again, which changes nothing", () => {
  const asked = shown(5);
  asked.want(6);
  asked.tell();
  asked.seen(5);
  assert.equal(asked.current, 6);
});

test("a slice that was chosen elsewhere counts", () => {
  const asked = shown(5);
  asked.want(6);
  asked.tell();
  asked.seen(20);
  assert.equal(asked.current, 20);
  asked.want(21);
  assert.equal(asked.tell(), 21);
});
