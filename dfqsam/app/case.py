"""What a clinician judges: the masks of both models on one slice, all of its objects together. Knows no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam import judgement
from dfqsam.app import compare
from dfqsam.app.compare import Pair
from dfqsam.app.models import Answer, Choice
from dfqsam.app.prompts import Target
from dfqsam.app.session import Work
from dfqsam.errors import InputError
from dfqsam.imaging import Plane, View, Window


def prompt_kind(targets: Sequence[Target | None]) -> str:
    """The word that the store has for these prompts; None for an object that came from another slice.

    >>> prompt_kind([Target((0, 0, 5, 5)), Target((1, 1, 3, 3), ((2, 2, 1),))])
    'box+point'
    """
    if None in targets:
        return "propagated"
    boxes = any(target is not None and target.box is not None for target in targets)
    points = any(target is not None and target.points for target in targets)
    return "box+point" if boxes and points else "point" if points else "box"


def together(answers: Sequence[Answer]) -> Answer:
    """The masks of several objects as one; it took as long as all decoders, and the encoder once."""
    mask = np.logical_or.reduce([one.mask for one in answers])
    return Answer(mask, max(one.encoder for one in answers), sum(one.decoder for one in answers))


@dataclass(frozen=True, eq=False)
class Case:
    """One slice with what was drawn on it and what both models made of that.

    Args:
        plane: that is shown.
        k: the slice, from 0 on as the view of that plane counts.
        picture: H x W x 3 uint8, as the models saw it through ``window``.
        pairs: of the objects on the slice; none before anything was drawn.
        targets: what was drawn for each of them, None for one that was propagated from another slice.
        labels: the number of each.
        selected: index of the one whose figures are shown.
    """

    work: Work
    choice: Choice
    plane: Plane
    k: int
    window: Window | None
    picture: NDArray[np.uint8]
    pairs: Sequence[Pair]
    targets: Sequence[Target | None]
    labels: Sequence[int]
    selected: int = 0

    @classmethod
    def of(
        cls,
        work: Work,
        choice: Choice,
        k: int,
        window: Window | None,
        picture: NDArray[np.uint8],
        objects: Mapping[int, Pair],
        targets: Mapping[int, Target],
        selected: int = -1,
    ) -> Case:
        """The case of a slice of the plane that is shown.

        Args:
            objects: masks by the object's number.
            targets: what was drawn on this slice, by the object's number, in the order in which it was drawn.
            selected: index of one of them, -1 for the last.
        """
        labels = list(objects)
        drawn = [label for label in targets if label in objects]
        at = labels.index(drawn[selected if selected < len(drawn) else -1]) if drawn else 0
        found = [targets.get(label) for label in labels]
        return cls(work, choice, work.plane, k, window, picture, list(objects.values()), found, labels, at)

    @property
    def view(self) -> View:
        """Of the plane that is shown."""
        return self.work.volume.view(self.plane)

    @property
    def comparable(self) -> bool:
        """Whether there are masks of both models."""
        return bool(self.pairs) and all(pair.full is not None for pair in self.pairs)

    def pair(self) -> Pair:
        """All objects as one.

        Raises:
            InputError: before anything was drawn.
        """
        if not self.pairs:
            raise InputError("Nothing is drawn on this slice; draw a box first.")
        full = [pair.full for pair in self.pairs if pair.full is not None]
        return Pair(together([pair.quantized for pair in self.pairs]), together(full) if self.comparable else None)

    def figures(self) -> judgement.Figures:
        """Of all objects as one, as they are stored.

        Raises:
            InputError: when there are no masks of both models.
        """
        found = compare.figures(self.work.volume, self.view, self.pair())
        if found.dice is None or found.full_area is None:
            raise InputError("Judging compares both models; choose a bundle with its full-precision model.")
        return judgement.Figures(found.unit, found.dice, found.hd95, found.full_area, found.area)

    def subject(self, key: judgement.SiteKey, rater: str) -> judgement.Subject:
        """Who judges what, in pseudonyms.

        Args:
            rater: pseudonym of a person or a session.

        Raises:
            InputError: when there is no full-precision model to compare with.
        """
        if self.choice.full is None:
            raise InputError("Judging compares both models; choose a bundle with its full-precision model.")
        return judgement.Subject(
            rater=rater,
            study=key.study(self.work.study),
            modality=judgement.modality_code(self.work.volume.modality),
            plane=self.plane,
            slice=self.k,
            full=self.choice.full.bundle.sha256,
            quantized=self.choice.bundle.sha256,
            profile=self.choice.bundle.manifest.profile,
            prompt=prompt_kind(self.targets),
        )


def same_case(one: judgement.Subject, other: judgement.Subject) -> bool:
    """Whether two judgements are of one slice seen with one pair of models, by whomever and with whatever prompt."""
    names = ("study", "plane", "slice", "full", "quantized")
    return all(getattr(one, name) == getattr(other, name) for name in names)
