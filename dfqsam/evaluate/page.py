"""A report in one HTML file: no script, no resource from outside, fit for screens and paper."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape

STYLE = """
:root { --ink: #1a1a1a; --soft: #5a5a5a; --line: #d9d9d9; --back: #ffffff; --panel: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem clamp(0.8rem, 3vw, 2rem) 3rem; color: var(--ink);
  background: var(--back); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.4rem 0 0.3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; border-bottom: 1px solid var(--line); padding-bottom: 0.2rem; }
p { margin: 0.5rem 0; max-width: 52rem; overflow-wrap: anywhere; }
.soft { color: var(--soft); font-size: 0.9rem; }
.verdict { border-left: 0.5rem solid; padding: 0.7rem 1rem; background: var(--panel); margin: 1rem 0; }
.verdict strong { font-size: 1.5rem; letter-spacing: 0.03em; }
.good { border-color: #009E73; } .bad { border-color: #D55E00; } .open { border-color: #E69F00; }
.note { border: 2px solid #D55E00; padding: 0.6rem 1rem; margin: 1rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 0.8rem; margin: 1rem 0; }
.cards div { background: var(--panel); padding: 0.7rem 0.9rem; }
.cards b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figure img { width: 100%; height: auto; } figure.wide { grid-column: 1 / -1; max-width: 52rem; }
figcaption { color: var(--soft); font-size: 0.9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td.n, th.n { text-align: right; white-space: nowrap; }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.85rem; }
@media print { body { font-size: 11pt; padding: 0; } figure, .verdict, tr { break-inside: avoid; } }
"""


def typeset(content: str) -> str:
    """The text escaped, with a minus sign before negative numbers and none of its units on a line of its own."""
    signed = re.sub(r"(?<![\w.-])-(?=\d)", "\u2212", content)
    return escape(re.sub(r"(?<=\d) (?=(%|ml|mm|px|points)(?!\w))", "\u00a0", signed))


def text(content: str, css: str = "") -> str:
    """A paragraph; the text is escaped."""
    return f'<p class="{css}">{typeset(content)}</p>' if css else f"<p>{typeset(content)}</p>"


def heading(content: str) -> str:
    return f"<h2>{escape(content)}</h2>"


def note(content: str) -> str:
    """A warning in a frame."""
    return f'<div class="note">{escape(content)}</div>'


def verdict(word: str, reason: str, css: str) -> str:
    """The verdict in large letters; ``css`` is good, bad or open."""
    return f'<div class="verdict {css}"><strong>{escape(word)}</strong><br>{typeset(reason)}</div>'


def cards(facts: Sequence[tuple[str, str]]) -> str:
    """Key figures: number and what it is."""
    return f'<div class="cards">{"".join(f"<div><b>{escape(n)}</b>{escape(w)}</div>" for n, w in facts)}</div>'


def plot(picture: bytes, caption: str, kind: str = "svg+xml", wide: bool = False) -> str:
    """A picture inside the page, with a caption that also serves those who do not see it."""
    data = b64encode(picture).decode()
    css = ' class="wide"' if wide else ""
    image = f'<img alt="{escape(caption)}" src="data:image/{kind};base64,{data}">'
    return f"<figure{css}>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def plots(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="plots">{"".join(figures)}</div>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first ``words`` columns are words and the others numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        parts = (
            f"<{tag}>{escape(cell)}</{tag}>" if i < words else f'<{tag} class="n">{typeset(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def page(title: str, parts: Sequence[str], foot: str) -> str:
    """The whole document, ``foot`` (paragraphs) at its end; the policy in its head forbids browsers to fetch."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + f"\n<footer>{foot}</footer></body></html>\n"
    )
