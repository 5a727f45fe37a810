import re
import sqlite3
from contextlib import closing
from datetime import timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqsam.errors import ChainError, InputError
from dfqsam.judgement import JudgementStore, Log, SiteKey
from dfqsam.judgement.record import draw_to_json
from tests.judgement.world import FIGURES, KEY, START, W4A8, fill, new_store, subject


@pytest.fixture
def store(tmp_path):
    with new_store(tmp_path) as found:
        yield found


def test_what_was_judged_is_found_again(store):
    one = store.accept(subject(), FIGURES)
    two = store.reject(subject("bernd"), FIGURES, "leak", "B12")
    draw = store.draw(subject("chen"))
    three = store.vote(draw.id, subject("chen").rater, "left", FIGURES)
    assert store.judgements() == [one, two, three]
    assert [item.sequence for item in (one, two, three)] == [2, 3, 5]
    assert [item.judgement.verdict for item in (one, two, three)] == ["accept", "reject", "prefer"]
    assert [item.preferred for item in (one, two, three)] == [None, None, draw.left]
    assert one.judgement.time == "2026-01-31T12:02:00.000Z"  # the clock's second minute; its first is the file's
    with new_store(store._log.path.parent) as again:
        assert again.judgements() == [one, two, three]
        assert again.head == store.head


def test_two_open_stores_see_each_other(store):
    with new_store(store._log.path.parent) as other:
        mine = store.accept(subject(), FIGURES)
        theirs = other.reject(subject("bernd"), FIGURES, "boundary")
        assert store.judgements() == other.judgements() == [mine, theirs]
        draw = store.draw(subject("chen"))
        voted = other.vote(draw.id, subject("chen").rater, "right", FIGURES)
        assert voted.preferred == draw.right
        with pytest.raises(InputError, match="has its vote already"):
            store.vote(draw.id, subject("chen").rater, "left", FIGURES)


def test_the_assignment_is_in_the_chain_before_the_vote(store):
    draw = store.draw(subject())
    drawn = store._log.entries()[-1]
    assert drawn.kind == "draw"
    assert drawn.document == draw_to_json(draw)
    head = store.head
    voted = store.vote(draw.id, subject().rater, "left", FIGURES)
    assert voted.sequence == head.count + 1
    assert store.verify(head) == store.head


def test_a_draw_stays_until_its_vote_and_is_drawn_anew_then(store):
    draw = store.draw(subject())
    assert store.draw(subject()) == draw
    with new_store(store._log.path.parent) as other:  # a page that is loaded anew, from another process
        assert other.draw(subject()) == draw
    assert store.draw(subject(slice=4)) != draw
    assert store.draw(subject("bernd")).id != draw.id
    assert store.open_draws() == 3
    store.vote(draw.id, subject().rater, "equal", FIGURES)
    assert store.open_draws() == 2
    assert store.draw(subject()).id != draw.id


def test_sides_are_drawn_by_chance(store):
    """Of 200, fewer than 60 or more than 140 come less than once in ten million runs; neighbours likewise."""
    sides = [store.draw(subject(slice=i)).left for i in range(200)]
    assert 60 <= sides.count("full") <= 140
    assert 55 <= sum(a == b for a, b in pairwise(sides)) <= 145


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"draw": "0" * 32}, "There is no such draw"),
        ({"rater": KEY.rater("bernd")}, "is somebody else's"),
        ({"choice": "quantized"}, "choice is none of: left, right, equal"),
    ],
)
def test_votes_that_are_refused_leave_the_draw_open(store, changes, said):
    draw = store.draw(subject())
    head = store.head
    vote = {"draw": draw.id, "rater": subject().rater, "choice": "left", "figures": FIGURES}
    with pytest.raises(InputError, match=said):
        store.vote(**{**vote, **changes})
    assert store.head == head
    assert store.vote(**vote).preferred == draw.left


def test_a_vote_that_somebody_appends_by_hand_is_seen(store):
    """Well chained, but not what the store would have written."""
    draw = store.draw(subject())
    document = store.vote(draw.id, subject().rater, "left", FIGURES).judgement.to_json()
    forged = [
        ({**document}, "This draw has its vote already"),
        ({**document, "draw": "0" * 32}, "There is no such draw"),
        ({**document, "quantized": W4A8, "draw": store.draw(subject(slice=5)).id}, "of another rater, slice or model"),
        ({**document, "patient": "x"}, "other fields"),
        ({**document, "reason": "note"}, "a reason"),
    ]
    whole = store._log.path.read_bytes()
    assert whole
    for i, (body, said) in enumerate(forged):
        path = store._log.path.with_name(f"forged{i}.sqlite")
        with closing(sqlite3.connect(store._log.path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        with Log(path) as log:
            log.append("judgement", body)
            assert log.verify()
        with pytest.raises(ChainError, match=rf"Entry \d+ is none that dfqsam writes: .*{said}"):
            JudgementStore(path, KEY)


def test_another_key_is_refused(store):
    with pytest.raises(InputError, match="was begun with another site key"):
        JudgementStore(store._log.path, SiteKey(bytes(32)))


def test_the_first_entry_says_what_the_file_is(store):
    about = store.about()
    assert {**about} == {**about, "key": KEY.fingerprint, "schema": 1, "time": "2026-01-31T12:01:00.000Z"}
    assert re.fullmatch("[0-9a-f]{32}", about["chain"])
    assert {*about} == {"key", "schema", "time", "chain", "created_by"}


def test_nothing_that_was_put_in_by_name_is_in_the_file(store):
    secret, login, uid = KEY._secret.hex(), "Dr. Anna Beispiel", "1.2.840.113619.2.55.3"
    about = subject(login, uid)
    store.accept(about, FIGURES)
    store.vote(store.draw(about).id, about.rater, "left", FIGURES)
    store.close()
    data = store._log.path.read_bytes().lower()
    for text in (secret, login, "beispiel", uid):
        assert text.lower().encode() not in data
    assert about.rater.encode() in data


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "reject", "draw", "left", "right", "equal"]),
        st.sampled_from(["anna", "bernd"]),
        st.integers(0, 1),
    ),
    max_size=15,
)


@given(ACTIONS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_course_of_actions_against_a_plain_model(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("course")
    expected, drawn, entries = [], {}, 1
    with new_store(folder) as store:
        for action, rater, place in actions:
            about = subject(rater, slice=place)
            if action == "accept":
                expected.append(("accept", about, None))
                store.accept(about, FIGURES)
            elif action == "reject":
                expected.append(("reject", about, None))
                store.reject(about, FIGURES, "empty")
            elif action == "draw":
                entries += about not in drawn
                assert store.draw(about) == drawn.setdefault(about, store.draw(about))
            elif about in drawn:
                draw = drawn.pop(about)
                sides = {"left": draw.left, "right": {"full": "quantized"}.get(draw.left, "full")}
                expected.append(("prefer", about, sides.get(action, "equal")))
                store.vote(draw.id, about.rater, action, FIGURES)
        found = [(item.judgement.verdict, item.judgement.subject, item.preferred) for item in store.judgements()]
        assert found == expected
        assert store.open_draws() == len(drawn)
        assert store.verify().count == entries + len(expected)
    with new_store(folder) as again:
        assert [item.judgement.subject for item in again.judgements()] == [about for _, about, _ in expected]


def test_times_are_in_utc_whatever_the_clock_shows(tmp_path):
    clock = START.astimezone(timezone(timedelta(hours=-7)))
    with new_store(tmp_path, clock=lambda: clock) as store:
        assert store.accept(subject(), FIGURES).judgement.time == "2026-01-31T12:00:00.000Z"


def test_a_new_process_goes_on_with_the_chain(tmp_path):
    heads = []
    for _ in range(3):
        with new_store(tmp_path) as store:
            fill(store, 2)
            heads.append(store.head)
            for head in heads:
                assert store.verify(str(head)) == heads[-1]
