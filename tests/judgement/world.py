"""A site with a key, and things to judge."""

from datetime import UTC, datetime, timedelta

from dfqsam.judgement import Figures, JudgementStore, SiteKey, Subject

KEY = SiteKey(bytes(range(32)))
FULL, W8A8, W4A8 = "f" * 64, "8" * 64, "4" * 64
FIGURES = Figures("mm", 0.98, 1.5, 100.0, 101.5)
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def subject(rater="anna", study="1.2.3", **changes) -> Subject:
    fields = {"modality": "CT", "plane": "axial", "slice": 3, "full": FULL, "quantized": W8A8, "profile": "w8a8"}
    return Subject(rater=KEY.rater(rater), study=KEY.study(study), **{**fields, "prompt": "box", **changes})


class Clock:
    """A minute goes by from one look to the next."""

    def __init__(self):
        self.time = START

    def __call__(self):
        self.time += timedelta(minutes=1)
        return self.time


def new_store(folder, **options) -> JudgementStore:
    return JudgementStore(folder / "judgements.sqlite", KEY, **{"clock": Clock(), **options})


def fill(store, count=6):
    """So many judgements of all kinds."""
    for i in range(count):
        about = subject("anna" if i % 2 else "bernd", f"1.2.{i // 2}")
        if i % 3 == 0:
            store.accept(about, FIGURES)
        elif i % 3 == 1:
            store.reject(about, FIGURES, "leak", "B12")
        else:
            store.vote(store.draw(about).id, about.rater, "left", FIGURES)
