import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import ChainError, InputError
from dfqsam.judgement.chain import GENESIS, Entry, Head, canonical, check, digest, following

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.text(), VALUES, max_size=4)


def chain(documents, kind="note"):
    head, entries = Head(), []
    for document in documents:
        entries.append(following(head, kind, document))
        head = entries[-1].head
    return entries


def test_the_first_two_hashes_by_hand():
    one, two = chain([{"b": 1, "a": "x"}, {}])
    first = hashlib.sha256(b"0" * 64 + b' 1 note {"a":"x","b":1}\n').hexdigest()
    assert one == Entry(1, "note", '{"a":"x","b":1}', GENESIS, first)
    assert two.sha256 == hashlib.sha256(f"{first} 2 note {{}}\n".encode()).hexdigest()


@given(st.lists(DOCUMENTS, max_size=5))
def test_what_was_written_is_whole_and_comes_back(documents):
    entries = chain(documents)
    head = check(entries)
    assert head.count == len(documents)
    assert [entry.document for entry in entries] == [json.loads(json.dumps(d)) for d in documents]
    assert all(entry.body.isascii() and entry.body.isprintable() for entry in entries)
    assert check(entries, expected=head) == head
    for known in range(len(documents)):  # a log may be followed further from any of its heads, and may have grown
        noted = entries[known].head
        assert check(entries[known + 1 :], noted) == head
        assert check(entries, expected=noted) == head


@given(st.lists(DOCUMENTS, min_size=1, max_size=5), st.data())
def test_any_change_of_a_field_is_seen(documents, data):
    entries = chain(documents)
    at = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(st.sampled_from(["sequence", "kind", "body", "previous", "sha256"]))
    other = data.draw(st.integers() if name == "sequence" else st.text(max_size=70))
    changed = [*entries[:at], replace(entries[at], **{name: other}), *entries[at + 1 :]]
    if changed != entries:
        with pytest.raises(ChainError):
            check(changed, expected=entries[-1].head)


@given(st.lists(DOCUMENTS, min_size=2, max_size=6), st.data())
def test_any_other_order_or_subset_is_seen(documents, data):
    entries = chain(documents)
    kept = data.draw(st.lists(st.sampled_from(entries), max_size=8))
    if kept != entries:
        with pytest.raises(ChainError):
            check(kept, expected=entries[-1].head)
    if kept != entries[: len(kept)]:
        with pytest.raises(ChainError):
            check(kept)


def test_the_error_says_where():
    entries = chain([{"n": i} for i in range(4)])
    cut = "The log ends after 3 entries, and the head noted before says 4; 1 were cut off."
    cases = [
        ([entries[0], replace(entries[1], body='{"n":7}')], "Entry 2 does not match its hash; it was altered."),
        ([entries[0], entries[2]], "After entry 1 comes 3; entries were removed, moved or put in there."),
        (entries[:3], cut),
    ]
    for tampered, said in cases:
        with pytest.raises(ChainError) as error:
            check(tampered, expected=entries[-1].head)
        assert str(error.value) == said


def test_a_rewritten_chain_is_whole_but_does_not_pass_through_the_noted_head():
    noted = chain([{"n": i} for i in range(4)])[2].head
    forged = chain([{"n": i if i != 1 else 9} for i in range(6)])
    assert check(forged).count == 6
    with pytest.raises(ChainError, match="Entry 3 has another hash than the head noted before"):
        check(forged, expected=noted)


@pytest.mark.parametrize(
    "body", ['{"a": 1}', '{"b":1,"a":2}', '{"a":1,"a":1}', "[]", "1", "{", '{"a":NaN}', '[["a",1]]']
)
def test_a_body_in_another_spelling_is_refused_even_with_its_hash(body):
    entry = Entry(1, "note", body, GENESIS, digest(GENESIS, 1, "note", body))
    with pytest.raises(ChainError, match="no spelling that dfqsam writes"):
        check([entry])


def test_the_kind_cannot_reach_into_the_body():
    """What is hashed is a line with spaces between; a kind with one would give two entries one hash."""
    for kind in ("", "a b", "A", "a\n", "a1", "x" * 33):
        with pytest.raises(InputError, match="no kind of entry"):
            following(Head(), kind, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(InputError, match="cannot be written as JSON"):
        canonical({"a": value})


@given(st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_a_head_comes_back_from_its_text(count, digest):
    head = Head(count, digest.hex())
    assert Head.parse(f" {head}\n") == head
    assert Head.parse(str(head).upper()) == head


@pytest.mark.parametrize(
    "text", ["", "57", "57:", "57:abc", "-1:" + "0" * 64, "٣:" + "0" * 64, "1:" + "g" * 64, "1" * 5000]
)
def test_another_text_is_no_head(text):
    with pytest.raises(InputError, match="is no head of a log"):
        Head.parse(text)
