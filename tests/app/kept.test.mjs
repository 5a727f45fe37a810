// Run by `node --test`; tests/app/test_component.py does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Kept } from "../../dfqsam/app/component/kept.mjs";

test("a picture is made once and asked for when it is not here", () => {
  const made = [];
  const kept = new Kept((url) => (made.push(url), { url }));
  assert.equal(kept.get("a", null), null);
  const first = kept.get("a", "one");
  assert.equal(kept.get("a", null), first);
  assert.equal(kept.get("a", "one"), first);
  assert.deepEqual(made, ["one"]);
});

test("what was looked at longest ago goes first", () => {
  const kept = new Kept((url) => ({ url }), 2);
  kept.get("a", "1");
  kept.get("b", "2");
  kept.get("a", null);
  kept.get("c", "3");
  assert.equal(kept.get("b", null), null);
  assert.ok(kept.get("a", null) && kept.get("c", null));
});
