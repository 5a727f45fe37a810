import copy
import shutil

import cv2
import numpy as np
import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import cases
from dfqsam.evaluate.metrics import dice
from dfqsam.experiment.cases import search_subset
from dfqsam.experiment.keep import fingerprint
from dfqsam.experiment.score import Judge
from dfqsam.sam.geometry import to_input_frame, undo_on_logits
from tests.experiment.world import small_sam, write_folder


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "data", {("a", "validation"): [3], ("fives_vessel", "validation"): [1]})


def test_the_model_itself_agrees_fully(folder):
    sam = small_sam()
    judge = Judge(sam, search_subset(folder, masks=None))
    score = judge.score(sam.encoder)
    assert (score.agreement, score.embedding_error, score.drop) == (100, 0, 0)
    assert score.dice == judge.base
    assert len(judge) == 2


def test_another_encoder_is_judged_by_masks_and_embedding(folder):
    sam = small_sam()
    other = copy.deepcopy(sam.encoder)
    other.neck[3].weight.mul_(3)
    other.neck[3].bias.mul_(3)
    score = Judge(sam, search_subset(folder, masks=None)).score(other)
    assert score.embedding_error == pytest.approx(2, rel=1e-5)
    assert 0 <= score.agreement < 100
    assert score.drop == pytest.approx(Judge(sam, search_subset(folder, masks=None)).base - score.dice)


def test_another_decoder_makes_the_masks_that_are_judged(folder):
    sam = small_sam()
    judge, other = Judge(sam, search_subset(folder, masks=None)), copy.deepcopy(sam.mask_decoder)
    assert judge.score(sam.encoder, decoder=other) == judge.score(sam.encoder)
    for head in other.output_hypernetworks_mlps:
        head.layers[-1].weight.neg_()
        head.layers[-1].bias.neg_()
    score = judge.score(sam.encoder, decoder=other)
    assert score.agreement == pytest.approx(0)  # what was inside is outside
    assert score.embedding_error == 0


def test_boxes_decoded_together_give_the_masks_of_boxes_decoded_alone(folder):
    sam = small_sam()
    chosen = [case for case in cases(folder) if case.dataset == "a"]
    judge = Judge(sam, chosen)
    (question, identity), *_ = judge.questions
    together = judge.kept.get(identity)[1]
    embedding = sam.embed(torch.from_numpy(np.ascontiguousarray(question.picture.transpose(2, 0, 1)))[None] / 255)
    for case, mask in zip(chosen, together, strict=True):
        box = torch.from_numpy(to_input_frame(case.box().reshape(2, 2), (40, 60), 64)).reshape(1, 4)
        sparse, dense = sam.prompt_encoder(points=None, boxes=box, masks=None)
        logits, _ = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        alone = undo_on_logits(logits[0].numpy(), (40, 60), 64)[0] > 0
        assert mask.shape == (40, 60)
        assert dice(mask, alone) > 0.999


def test_answers_are_kept_on_the_disk_and_survive_damage(folder, tmp_path):
    sam, chosen, cache = small_sam(), search_subset(folder, masks=None), tmp_path / "judge"
    first = Judge(sam, chosen, cache)
    assert len(list(cache.glob("*.npz"))) == 2

    calls = []
    sam.encoder.register_forward_hook(lambda *_: calls.append(1))
    second = Judge(sam, chosen, cache)
    assert not calls
    assert second.base == first.base
    next(cache.glob("*.npz")).write_bytes(b"cut off")
    assert Judge(sam, chosen, cache).base == first.base
    assert len(calls) == 1


def test_a_copy_of_the_data_asks_nothing_again_and_other_pixels_do(folder, tmp_path):
    sam, cache, moved = small_sam(), tmp_path / "judge", tmp_path / "copied"
    Judge(sam, search_subset(folder, masks=None), cache)
    shutil.copytree(folder, moved, copy_function=shutil.copyfile)  # with other times

    calls = []
    sam.encoder.register_forward_hook(lambda *_: calls.append(1))
    chosen = search_subset(moved, masks=None)
    Judge(sam, chosen, cache)
    assert not calls
    pixels = 255 - cv2.imread(str(chosen[0].image))
    cv2.imwrite(str(chosen[0].image), pixels)
    Judge(sam, search_subset(moved, masks=None), cache)
    assert len(calls) == 1


def test_other_weights_have_another_fingerprint():
    sam = small_sam()
    before = fingerprint(sam)
    assert before == fingerprint(small_sam())
    sam.encoder.neck[3].bias.add_(1)
    assert fingerprint(sam) != before


def test_vessels_alone_are_nothing_to_judge_by(folder):
    with pytest.raises(InputError, match="vessels"):
        Judge(small_sam(), [case for case in cases(folder) if case.dataset == "fives_vessel"])
