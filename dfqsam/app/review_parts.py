"""What the review page shows of judgements: rows of a table, and shares with their intervals. Knows no Streamlit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from html import escape
from typing import Any

from dfqsam.app.cards import STYLE
from dfqsam.app.display import FULL, QUANTIZED
from dfqsam.judgement import REASONS, Figures, Stored, Subject
from dfqsam.judgement.review import Pair, Preference

VERDICTS = {"accept": "accepted", "reject": "rejected", "prefer": "blinded vote"}
PREFERRED = {"full": "full precision", "quantized": "quantized", "equal": "no difference"}

BAR_STYLE = """<style>
.dqs { max-width: 620px; margin: 6px 0 2px; }
.dqs .ends { display: flex; justify-content: space-between; font-size: 12px; opacity: 0.75; }
.dqs .bar { position: relative; height: 30px; margin: 3px 0; border-radius: 6px;
  background: color-mix(in srgb, currentColor 9%, transparent); }
.dqs .bar i { position: absolute; top: 0; bottom: 0; left: 50%; border-left: 1.5px dashed currentColor; opacity: 0.5; }
.dqs .bar b { position: absolute; top: 11px; height: 8px; border-radius: 4px; background: currentColor; opacity: 0.45; }
.dqs .bar u { position: absolute; top: 5px; width: 6px; height: 20px; margin-left: -3px; border-radius: 3px; }
.dqs p { font-size: 14px; margin: 4px 0; }
</style>"""


def judge(pseudonym: str, own: str | None = None) -> str:
    """A person for the screen: the kind and the beginning of the pseudonym.

    >>> judge("login-0123456789abcdef0123456789abcdef"), judge("session-ffffffffffffffffffffffffffffffff")
    ('name 01234567', 'unnamed ffffffff')
    """
    kind, digits = pseudonym.split("-", 1)
    return f"{'name' if kind == 'login' else 'unnamed'} {digits[:8]}{' (you)' if pseudonym == own else ''}"


def bundle(subject: Subject) -> str:
    """The quantized bundle for the screen."""
    return f"{subject.profile} {subject.quantized[:8]}"


def day(value: date, end: bool = False) -> datetime:
    """The beginning of a day, or of the next one, in UTC.

    >>> day(date(2026, 1, 31), end=True).isoformat()
    '2026-02-01T00:00:00+00:00'
    """
    return datetime.combine(value + timedelta(days=int(end)), time(), UTC)


def _distance(figures: Figures) -> str:
    return "" if figures.hd95 is None else f"{figures.hd95:.2f} {figures.unit}"


def rows(stored: Sequence[Stored], wanted: Sequence[Stored]) -> list[dict[str, Any]]:
    """The wanted judgements for a table, the newest first.

    Args:
        stored: all there are, oldest first: among them it is counted how often a slice was judged.
    """
    times: Counter[tuple[object, ...]] = Counter()
    again: dict[int, str] = {}
    for one in stored:
        subject = one.judgement.subject
        case = (subject.study, subject.plane, subject.slice, subject.full, subject.quantized)
        times[case] += 1
        times[(*case, subject.rater)] += 1
        own = times[(*case, subject.rater)]
        again[one.sequence] = f"{times[case]}" + ("" if own == 1 else f" (no. {own} of this judge)")
    found = []
    for one in reversed(wanted):
        judgement = one.judgement
        subject, figures = judgement.subject, judgement.figures
        why = (
            ""
            if judgement.reason is None
            else REASONS[judgement.reason] + (f", {judgement.code}" if judgement.code else "")
        )
        if one.preferred is not None:
            why = PREFERRED[one.preferred] + ("" if one.preferred == "equal" else f", {judgement.choice} side")
        found.append(
            {
                "entry": one.sequence,
                "time (UTC)": judgement.time[:16].replace("T", " "),
                "verdict": VERDICTS[judgement.verdict],
                "reason or vote": why,
                "judge": judge(subject.rater),
                "judgement of this slice": again[one.sequence],
                "slice": f"{subject.plane} {subject.slice + 1}",
                "agreement": f"{figures.agreement:.3f}",
                "HD95": _distance(figures),
                "modality": subject.modality,
                "study": subject.study[:8],
                "bundle": bundle(subject),
            }
        )
    return found


def _plural(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def preference(found: Preference) -> str:
    """The blinded votes in words, with the share of the quantized model and its interval as a bar."""
    votes = _plural(found.quantized + found.full + found.equal, "vote")
    words = (
        f"<p>{votes} of {_plural(found.raters, 'judge')} on {_plural(found.studies, 'study', 'studies')}: quantized "
        f"{found.quantized}, full precision {found.full}, no difference {found.equal}. For the left side, whatever was "
        f"there: {found.left}.</p>"
    )
    if found.share is None or found.exact is None or found.wilson is None:
        return (
            f'{BAR_STYLE}<div class="dqs">{words}<p>No vote was for either model yet, so there is no share.</p></div>'
        )
    low, high = found.exact
    ends = ("always full precision", "no preference", "always quantized")
    bar = (
        f'<div class="ends">{"".join(f"<span>{words}</span>" for words in ends)}</div>'
        f'<div class="bar"><i></i><b style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></b>'
        f'<u style="left:{100 * found.share:.1f}%;background:{QUANTIZED if found.share >= 0.5 else FULL}"></u></div>'
    )
    either = _plural(found.quantized + found.full, "vote")
    said = (
        f"<p><b>Quantized in {_percent(found.share)}</b> of {either} for either; "
        f"95 % interval {_percent(low)} to {_percent(high)} (Clopper-Pearson), {_percent(found.wilson[0])} to "
        f"{_percent(found.wilson[1])} (Wilson).</p>"
    )
    return f'{BAR_STYLE}<div class="dqs">{said}{bar}{words}</div>'


def counted(numbers: dict[str, Any], draws: int | None) -> str:
    """Counts as cards; ``draws`` that have no vote, where they are asked for."""
    verdicts, reasons = numbers["verdicts"], numbers["reasons"]
    most = ", ".join(f"{name} {count}" for name, count in reasons.items())
    values = [
        (
            "Judgements",
            numbers["judgements"],
            f"{_plural(numbers['raters'], 'judge')}, {_plural(numbers['studies'], 'study', 'studies')}",
        ),
        ("Accepted", verdicts["accept"], ""),
        ("Rejected", verdicts["reject"], most),
        ("Blinded votes", verdicts["prefer"], "" if draws is None else f"{draws} shown without a vote"),
    ]
    made = (f"<div><span>{t}</span><b>{v}</b><small>{escape(b)}</small></div>" for t, v, b in values)
    return f'{STYLE}<div class="dqf">{"".join(made)}</div>'


def agreement(pairs: Sequence[Pair], own: str | None) -> list[dict[str, Any]]:
    """Rows of a table: two judges, on how many studies, how often the same, kappa."""
    return [
        {
            "judge": judge(pair.one, own),
            "and": judge(pair.two, own),
            "studies of both": pair.kappa.n,
            "said the same": _percent(pair.kappa.observed),
            "Cohen's kappa": "undefined" if pair.kappa.kappa is None else f"{pair.kappa.kappa:.2f}",
        }
        for pair in pairs
    ]
