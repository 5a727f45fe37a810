"""How far an encoder is from the full-precision one: the masks that come of it, and the embedding itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import THIN, Case
from dfqsam.evaluate.metrics import dice
from dfqsam.evaluate.summary import mean_over_sets
from dfqsam.experiment.cases import by_picture, picture_tensor
from dfqsam.experiment.keep import Kept, answer_key, fingerprint
from dfqsam.progress import stage
from dfqsam.sam.geometry import as_rgb, resize_longest_side, to_input_frame, undo_on_logits
from dfqsam.sam.model import Sam


def _mean(scores: dict[Case, float]) -> float:
    return mean_over_sets((case.dataset, score) for case, score in scores.items())


@dataclass(frozen=True)
class Score:
    """What :meth:`Judge.score` found; masks come from exact boxes.

    Attributes:
        agreement: Dice with the full-precision masks, 0 to 100.
        embedding_error: norm of the embeddings' difference over their norm, of all pictures together; 0 is perfect.
        dice: Dice with the reference masks, 0 to 100.
        drop: how much lower ``dice`` is than that of full precision, in points.
    """

    agreement: float
    embedding_error: float
    dice: float
    drop: float


@dataclass(frozen=True)
class Question:
    """A picture and what is asked about it: its cases, and their boxes (N x 4, x0 y0 x1 y1, input frame)."""

    cases: list[Case]
    boxes: Tensor
    picture: NDArray[np.uint8]
    shape: tuple[int, int]


class Judge:
    """Full-precision masks and embeddings of a list of cases, against which encoders are scored.

    Dice figures are means over data sets of means over masks, without vessels and thin bleedings, about which a box
    says nothing. The prompt encoder stays that of ``sam``, in full precision.
    """

    @torch.no_grad()
    def __init__(self, sam: Sam, cases: list[Case], cache: Path | None = None) -> None:
        """Encodes every picture once.

        Args:
            cache: directory that keeps, per picture, embedding and masks for the next time and frees the memory.

        Raises:
            InputError: when no case is left to average over, or a file cannot be read.
        """
        if all(case.dataset in THIN for case in cases):
            raise InputError("There is no mask to judge by besides vessels and thin bleedings; give other data sets.")
        self.sam, self.kept, self.base = sam, Kept(cache), 0.0
        model = fingerprint(sam) if cache is not None else ""
        self.questions: list[tuple[Question, str]] = []
        reference: dict[Case, float] = {}
        groups = by_picture(cases)
        with stage("Masks of the full-precision model", len(groups)) as advance:
            for group in groups:
                question = self._ask(group)
                identity = answer_key(model, question.picture, question.boxes.numpy(), question.shape)
                self.questions.append((question, identity))
                answer = self.kept.get(identity)
                if answer is None:
                    embedding = self._embed(sam.encoder, question)
                    answer = self.kept.put(identity, embedding.numpy(), self._masks(embedding, question, None))
                for case, mask in zip(group, answer[1], strict=True):
                    reference[case] = dice(mask, case.reference())
                advance()
        self.base = 100 * _mean(reference)

    def __len__(self) -> int:
        """How many pictures :meth:`score` encodes."""
        return len(self.questions)

    @torch.no_grad()
    def score(
        self, encoder: nn.Module, advance: Callable[[], object] = lambda: None, decoder: nn.Module | None = None
    ) -> Score:
        """Judges an encoder that takes and gives what ``sam.encoder`` does.

        Args:
            advance: called after every picture.
            decoder: what makes masks of its embeddings; None for the mask decoder of ``sam``, in full precision.
        """
        agreement: dict[Case, float] = {}
        reference: dict[Case, float] = {}
        difference, norm = 0.0, 0.0
        for question, identity in self.questions:
            answer = self.kept.get(identity)
            assert answer is not None
            true = torch.from_numpy(answer[0])
            found = self._embed(encoder, question)
            difference += float((found - true).double().square().sum())
            norm += float(true.double().square().sum())
            masks = self._masks(found, question, decoder)
            for case, mask, wanted in zip(question.cases, masks, answer[1], strict=True):
                agreement[case] = dice(mask, wanted)
                reference[case] = dice(mask, case.reference())
            advance()
        own = 100 * _mean(reference)
        error = math.sqrt(difference / norm) if norm else math.nan
        return Score(100 * _mean(agreement), error, own, self.base - own)

    def _ask(self, group: list[Case]) -> Question:
        size = self.sam.family.image_size
        picture = as_rgb(group[0].picture())
        shape = picture.shape[0], picture.shape[1]
        corners = np.stack([case.box().reshape(2, 2) for case in group])
        boxes = torch.from_numpy(to_input_frame(corners, shape, size)).flatten(1)
        return Question(group, boxes, resize_longest_side(picture, size), shape)

    def _embed(self, encoder: nn.Module, question: Question) -> Tensor:
        """1 x C x E x E."""
        return encoder(self.sam.normalise(picture_tensor(question.picture)[None]))

    def _masks(self, embedding: Tensor, question: Question, decoder: nn.Module | None) -> NDArray[np.bool_]:
        """N x H x W in the original frame, of all boxes in one call of the decoder."""
        prompts = self.sam.prompt_encoder
        sparse, dense = prompts(points=None, boxes=question.boxes, masks=None)
        logits, _ = (decoder or self.sam.mask_decoder)(
            image_embeddings=embedding,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return undo_on_logits(logits[:, 0].numpy(), question.shape, self.sam.family.image_size) > 0
