"""One step of training: views, prompts, answers, loss. Every draw depends on the seed and the number of the step alone,
so that a run that was stopped needs no state of a random generator to go on."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.sam.device import quick_in_bfloat16
from dfqsam.sam.model import scale
from dfqsam.sam.preprocessing import SAM
from dfqsam.sam.reference.answers import answer, enlarged, prompt_of
from dfqsam.sam.reference.augment import Draw, Views, views
from dfqsam.sam.reference.clicks import corrective
from dfqsam.sam.reference.data import Bank
from dfqsam.sam.reference.loss import against_masks, against_teacher, overlap
from dfqsam.sam.reference.model import Learner
from dfqsam.sam.reference.settings import Settings
from dfqsam.sam.reference.teacher import Teacher
from dfqsam.synth.layouts import boxes_of

SIZE, SIDE = 256, 128  # of pictures, and of masks as they are compared: twice the decoder's own, a quarter of the work
JITTER = 0.1  # of a box's side, at most
EXACT = 1 / 2  # chance that a box is exact
CLICKS = 5  # at most
FROM_BOX = 0.25  # chance that clicks mend what a box gave


def batch_of(bank: Bank, chances: tuple[Tensor, Tensor], settings: Settings, draw: Draw) -> Views:
    """The views of a step."""
    real, drawn = chances
    share = settings.drawn if bool(real.any()) else 1.0
    kind = draw.chance(share, settings.batch) & bool(drawn.any())
    from_real = _chosen(real, settings.batch, draw)
    pictures = torch.where(kind, _chosen(drawn, settings.batch, draw), from_real)
    first, counts = bank.starts()
    place = draw.uniform(0, 1, settings.batch, settings.objects) * counts[pictures][:, None]
    objects = first[pictures][:, None] + place.long().clamp_max(counts[pictures][:, None] - 1)
    return views(bank, pictures, objects, draw, SIZE)


def _chosen(weights: Tensor, count: int, draw: Draw) -> Tensor:
    if not bool(weights.any()):
        return torch.zeros(count, dtype=torch.long, device=draw.device)
    return torch.multinomial(weights.to(draw.device), count, replacement=True, generator=draw.generator)


def jittered(boxes: Tensor, draw: Draw) -> Tensor:
    """B x M x 4 boxes, half of them with every side moved by up to a tenth of the box's own; within the picture."""
    sides = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    moved = draw.uniform(-JITTER, JITTER, *boxes.shape) * sides
    exact = draw.chance(EXACT, *boxes.shape[:2])
    return (boxes + moved * ~exact[..., None]).clamp(0, SIZE - 1)


def loss_of(
    learner: Learner,
    teacher: Teacher | None,
    bank: Bank,
    chances: tuple[Tensor, Tensor],
    settings: Settings,
    number: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of step ``number``, and its parts with the Dice of boxes and clicks (scalars)."""
    device = bank.pictures.device
    # Clicks are counted on the host, so that choosing them waits for no GPU.
    host = random.Random(f"{settings.seed}/{number}")
    draw = Draw(settings.seed * 10_000_019 + number, device)
    seen = batch_of(bank, chances, settings, draw)
    wanted = F.avg_pool2d(seen.masks.flatten(0, 1).float()[:, None], SIZE // SIDE)[:, 0]
    target, weight = wanted > 0.5, seen.weight.flatten()
    boxes = jittered(boxes_of(seen.masks), draw)
    normalised = scale(seen.images, SAM) * seen.valid
    with torch.autocast(device.type, torch.bfloat16, quick_in_bfloat16(device)):
        embedding = learner.image_encoder(normalised).repeat_interleave(settings.objects, 0)

        def ask(prompts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            logits, quality = answer(learner.prompt_encoder, learner.mask_decoder, embedding, *prompts)
            return enlarged(logits, SIDE), quality

        flat = boxes.flatten(0, 1)
        by_box, quality = ask(prompt_of(flat))
        parts = {"box": against_masks(by_box, quality, wanted, weight)}
        by_click, click_quality = ask(_clicks(ask, by_box.detach(), flat, target, host, draw))
        parts["clicks"] = against_masks(by_click, click_quality, wanted, weight)
        if teacher is not None and settings.teach_every and number % settings.teach_every == 0:
            taught = teacher.logits(seen.images, seen.valid, boxes, SIDE)
            parts["teacher"] = against_teacher(by_box, taught, wanted, weight)
    loss = torch.stack(list(parts.values())).sum()
    shares = weight / weight.sum().clamp_min(1e-6)
    for name, logits in (("dice_box", by_box), ("dice_clicks", by_click)):
        parts[name] = (overlap(logits.detach(), wanted)[0] * shares).sum()
    return loss, {name: value.detach() for name, value in parts.items()}


@torch.no_grad()
def _clicks(
    ask: Callable[[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]],
    by_box: Tensor,
    boxes: Tensor,
    target: Tensor,
    host: random.Random,
    draw: Draw,
) -> tuple[Tensor, Tensor]:
    """One to five clicks, each but the first one where the answer to those before is wrong; sometimes with the box."""
    with_box = host.random() < FROM_BOX
    count = host.randint(1, CLICKS)
    found = by_box > 0 if with_box else torch.zeros_like(target)
    given = boxes if with_box else None
    points: list[Tensor] = []
    labels: list[Tensor] = []
    for _ in range(count):
        if points:
            found = ask(prompt_of(given, torch.stack(points, 1), torch.stack(labels, 1)))[0] > 0
        point, label = corrective(found, target, draw.generator)
        points.append((point + 0.5) * (SIZE / SIDE) - 0.5)
        labels.append(label)
    return prompt_of(given, torch.stack(points, 1), torch.stack(labels, 1))
