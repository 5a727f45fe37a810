"""What a training run is told; kept in its checkpoint, so that a run goes on as it began."""

from __future__ import annotations

from dataclasses import dataclass

from dfqsam.errors import InputError


@dataclass(frozen=True)
class Settings:
    """
    Attributes:
        width, depth: of the encoder.
        batch: pictures a step.
        objects: masks of each picture that are asked for.
        steps: how many; the schedule ends there. 0 where ``minutes`` says how long.
        minutes: of computing, all runs together; the schedule follows the clock, so that a run that was stopped ends
            as late as one that was not, but not at the same weights. 0 where ``steps`` counts.
        lr: largest learning rate of AdamW, see :mod:`dfqsam.sam.reference.optimisers`.
        teach_every: the teacher is asked at every so manyth step; 0 for never.
        drawn: share of drawn pictures in a batch, where there are real ones too.
        seed: of every draw.
    """

    width: int = 192
    depth: int = 6
    batch: int = 16
    objects: int = 2
    steps: int = 20_000
    minutes: float = 0.0
    lr: float = 1e-3
    teach_every: int = 20
    drawn: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.objects < 1:
            raise InputError("A batch needs at least one picture, and a picture one object.")
        if self.minutes < 0 or self.steps < 0 or (self.steps > 0) == (self.minutes > 0):
            raise InputError("Give either a number of steps or of minutes, above 0.")
        if not 0 < self.lr < 1:
            raise InputError(f"{self.lr} is no learning rate; give one between 0 and 1.")
        if not 0 <= self.drawn <= 1 or self.teach_every < 0 or self.seed < 0:
            raise InputError("The share of drawn pictures is between 0 and 1; seed and --teach-every are 0 or more.")
