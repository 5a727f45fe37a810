"""Two masks without their names: sides settled by chance, and nothing on the page that tells them apart.

What is sent to the browser before the vote is built here anew, from the masks alone. Knows no Streamlit.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from dfqsam.app import cards
from dfqsam.app.display import BOTH
from dfqsam.app.models import Choice
from dfqsam.runtime.overlay import PURPLE, VERMILION

MASK, APART = ("#{:02x}{:02x}{:02x}".format(*colour) for colour in (PURPLE, VERMILION))
SIDES = ("left", "right")
MODELS = {"full": "the full-precision model", "quantized": "the quantized model"}


def _bare(layer: dict[str, Any], colour: str) -> dict[str, Any]:
    return {name: layer[name] for name in ("runs", "filled", "strong")} | {"colour": colour}


def panels(named: Sequence[dict[str, Any]], left: str) -> list[dict[str, Any]]:
    """The panels of :func:`dfqsam.app.display.panels` without names: left, right, and where the two differ.

    Both masks have one colour, and so has whatever only one of them holds.

    Args:
        named: full precision, quantized, difference.
        left: ``full`` or ``quantized``.
    """
    full, quantized, difference = named
    order = (full, quantized) if left == "full" else (quantized, full)
    made = []
    for side, panel in zip(SIDES, order, strict=True):
        layers = [_bare(layer, MASK) for layer in panel["layers"]]
        made.append({"title": side.capitalize(), "layers": layers, "legend": [[MASK, "mask"]], "prompts": True})
    # What both hold comes first; the other two in an order that does not depend on the models.
    both, apart = difference["layers"][:1], difference["layers"][1:]
    layers = [_bare(layer, BOTH) for layer in both]
    layers += sorted((_bare(layer, APART) for layer in apart), key=lambda layer: layer["runs"])
    legend = [[BOTH, "both"], [APART, "one of them only"]]
    made.append({"title": "Where they differ", "layers": layers, "legend": legend, "prompts": False})
    return made


def revealed(named: Sequence[dict[str, Any]], left: str) -> list[dict[str, Any]]:
    """The named panels on the sides that were voted on."""
    full, quantized, *rest = named
    order = (full, quantized) if left == "full" else (quantized, full)
    titled = [
        {**panel, "title": f"{side.capitalize()}: {panel['title'][0].lower()}{panel['title'][1:]}"}
        for side, panel in zip(SIDES, order, strict=True)
    ]
    return [*titled, *rest]


def banner(choice: Choice) -> str:
    """The strip that is always there; its bundle names the pair that is compared, and neither side of it."""
    return (
        f'{cards.BANNER_STYLE}<div class="dqb" role="note"><b>For research use, not for diagnosis</b>'
        f"<span>blinded vote · bundle {escape(choice.bundle.sha256[:12])}</span></div>"
    )


def result(choice: str, left: str) -> str:
    """What a vote says once names are shown.

    >>> result("left", "quantized")
    'You preferred the left mask: the quantized model. On the right was the full-precision model.'
    """
    right = "quantized" if left == "full" else "full"
    if choice == "equal":
        return f"You saw no difference. On the left was {MODELS[left]}, on the right {MODELS[right]}."
    chosen, other = (left, right) if choice == "left" else (right, left)
    opposite = "right" if choice == "left" else "left"
    return f"You preferred the {choice} mask: {MODELS[chosen]}. On the {opposite} was {MODELS[other]}."
