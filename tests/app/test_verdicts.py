"""A verdict is stored whatever else Streamlit is asked for in the moment of the press."""

import pytest
from streamlit.runtime.scriptrunner import RerunData, RerunException

from dfqsam.app import judge, vote
from dfqsam.app.records import Records
from tests.app.test_judging import case_of, choice  # noqa: F401 (a fixture)
from tests.judgement.world import KEY

BOX = (5, 5, 40, 40)


class Interrupted(dict):
    """A session that ends whoever looks into it, once, as Streamlit does where a rerun of the page is asked for."""

    ends = 1

    def get(self, key, default=None):
        if self.ends:
            self.ends -= 1
            raise RerunException(RerunData())
        return super().get(key, default)

    def setdefault(self, key, default=None):
        self.get(key)
        return super().setdefault(key, default)

    def pop(self, key, default=None):
        self.get(key)
        return super().pop(key, default)


def test_a_verdict_is_stored_though_streamlit_ends_the_callback(choice, tmp_path, monkeypatch):  # noqa: F811
    kept, case = Records(tmp_path), case_of(choice, BOX)
    session = Interrupted({"reason": "boundary", "code": " b12 "})
    monkeypatch.setattr("streamlit.session_state", session)
    with pytest.raises(RerunException):  # which Streamlit goes on with once the callback is over
        judge._record(kept, "here", case, None)
    assert [one.judgement.verdict for one in kept.judgements()] == ["accept"]
    verdict = case.work.verdict
    assert (verdict.place, verdict.accepts, verdict.stored, verdict.told) == ("here", True, kept.judgements()[0], False)
    judge._record(kept, "here", case, None)
    assert len(kept.judgements()) == 1, "a double click is one verdict"
    session.ends = 1
    with pytest.raises(RerunException):
        judge._record(kept, "here", case, ("reason", "code"))
    rejected = kept.judgements()[1].judgement
    assert (rejected.verdict, rejected.reason, rejected.code) == ("reject", "boundary", "B12")
    assert rejected.subject.rater == kept.judgements()[0].judgement.subject.rater


def test_what_is_refused_is_said(choice, tmp_path, monkeypatch):  # noqa: F811
    kept, case = Records(tmp_path), case_of(choice, BOX)
    monkeypatch.setattr("streamlit.session_state", {"reason": "other", "code": "Smith"})
    judge._record(kept, "here", case, ("reason", "code"))
    assert case.work.verdict.stored is None
    assert "code" in case.work.verdict.refused
    assert kept.judgements() == []


def test_a_vote_counts_though_streamlit_ends_the_callback(choice, tmp_path, monkeypatch):  # noqa: F811
    kept, case, named = Records(tmp_path), case_of(choice, BOX), {}
    draw = kept.store.draw(case.subject(kept.key, KEY.rater("anna")))
    monkeypatch.setattr("streamlit.session_state", Interrupted())
    place = vote._place(case)
    with pytest.raises(RerunException):
        vote._cast(kept, draw, "left", case.figures(), place, named)
    (stored,) = kept.judgements()
    assert stored.judgement.choice == "left"
    assert named == {place: (draw, stored)}
