"""Whose turn it is at the processor, and which pictures a browser was sent."""

import threading
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app.sent import Sent, key_of
from dfqsam.app.turns import Turns


def test_who_waits_as_a_person_goes_first_and_one_at_a_time():
    turns, order, inside = Turns(), [], []
    waiting = threading.Barrier(4)

    def work(name: str, urgent: bool) -> None:
        waiting.wait(5)
        with turns.take(urgent):
            inside.append(name)
            assert len(inside) == 1
            order.append(name)
            inside.pop()

    with turns.take(urgent=False):
        threads = [threading.Thread(target=work, args=(f"{n}", n == 2)) for n in range(3)]
        for thread in threads:
            thread.start()
        waiting.wait(5)
        while turns._urgent == 0:
            pass
    for thread in threads:
        thread.join(5)
    assert order[0] == "2"
    assert sorted(order) == ["0", "1", "2"]


def test_an_error_ends_the_turn():
    turns = Turns()
    try:
        with turns.take(urgent=True):
            raise ValueError
    except ValueError:
        pass
    with turns.take(urgent=False):
        pass


class Page:
    """Keeps pictures as component/kept.mjs does; asks for what it lacks."""

    def __init__(self, most: int) -> None:
        self.most, self.kept, self.asked = most, OrderedDict(), 0

    def show(self, sent: Sent, key: str, dropped: bool) -> bool:
        url = sent.offer(key, lambda: f"url {key}")
        if dropped:  # the message never came
            return False
        if key not in self.kept and url is None:
            self.asked += 1
            sent.lacks(key)
            url = sent.offer(key, lambda: f"url {key}")
        self.kept[key] = self.kept.get(key) or url
        self.kept.move_to_end(key)
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return self.kept[key] == f"url {key}"


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=80))
def test_a_page_always_has_the_picture_and_asks_only_after_a_loss(steps):
    sent, page = Sent(most=4), Page(most=6)
    for number, dropped in steps:
        assert page.show(sent, str(number), dropped) or dropped
    assert page.asked == 0 or any(dropped for _, dropped in steps)


def test_a_picture_is_sent_once():
    import numpy as np

    sent, made = Sent(), []
    one = np.zeros((4, 5, 3), np.uint8)
    for _ in range(5):
        sent.offer(key_of(one), lambda: made.append(1) or "url")
    assert made == [1]
    assert key_of(one) == key_of(one.copy())
    assert key_of(one) != key_of(one.reshape(5, 4, 3))
    sent.lacks({"not": "a key"})
    sent.lacks(key_of(one))
    assert sent.offer(key_of(one), lambda: "again") == "again"
