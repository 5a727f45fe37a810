import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.model import load_sam
from dfqsam.sam.reference import lessons as module
from dfqsam.sam.reference.distil import distil, main
from dfqsam.sam.reference.keep import CURVES, read_log
from dfqsam.sam.reference.lessons import learn_from
from dfqsam.sam.reference.model import Learner, Sizes, cosines, waves
from tests.sam.reference.world import tiny_bank, tiny_settings


class Stub:
    """A teacher whose embedding is linear in the means of 4 x 4 pixels."""

    def __init__(self) -> None:
        self.weights = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
        self.asked = 0

    def embedding(self, images, valid):
        self.asked += len(images)
        return torch.einsum("nkhw,ck->nchw", torch.nn.functional.avg_pool2d(images * valid, 4), self.weights) + 5


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder, teacher = tmp_path_factory.mktemp("lessons"), Stub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EACH", 4)
        patch.setattr(module, "BATCH", 2)
        patch.setattr(module, "DIRECTIONS", 2)
        patch.setattr("dfqsam.sam.reference.distil.DIRECTIONS", 2)
        patch.setattr("dfqsam.sam.reference.loop.LOGGED", 4)
        yield folder, teacher, learn_from(folder, teacher, tiny_bank(), tiny_settings(8), 8, 16)


def test_lessons_are_asked_once_and_again_only_where_one_is_missing(asked):
    folder, teacher, lessons = asked
    assert teacher.asked == len(lessons) == 8
    (folder / "0001.pt").unlink()
    same = learn_from(folder, teacher, tiny_bank(), tiny_settings(8), 8, 16)
    assert teacher.asked == 12
    for name in ("images", "valid", "means", "details", "centre", "spread"):
        assert torch.equal(getattr(same, name), getattr(lessons, name))
    with pytest.raises(InputError, match="of another seed"):
        learn_from(folder, teacher, tiny_bank(), tiny_settings(8, seed=1), 8, 16)


def test_lessons_are_the_teachers_embeddings(asked):
    _, teacher, lessons = asked
    truth = teacher.embedding(lessons.images.float() / 255, lessons.valid)
    pooled = torch.nn.functional.avg_pool2d(truth, 4)
    found = lessons.means.float() * lessons.spread[:, None, None] + lessons.centre[:, None, None]
    torch.testing.assert_close(found, pooled, atol=0.02, rtol=0.02)
    assert lessons.details.shape == (8, 2, 64, 64)
    # Two directions hold nearly all of grey pictures: each place's embedding is linear in its details.
    flat = torch.cat([lessons.details.float(), torch.ones(8, 1, 64, 64)], 1).permute(0, 2, 3, 1).flatten(0, 2)
    wanted = truth.permute(0, 2, 3, 1).flatten(0, 2)
    left = wanted - flat @ torch.linalg.lstsq(flat, wanted).solution
    assert left.var() < 0.05 * wanted.var()


def test_the_encoder_learns_them_and_a_stopped_run_goes_on(asked, tmp_path):
    settings = tiny_settings(16, lr=1e-3, batch=4)
    learner = Learner(Sizes(settings.width, settings.depth))
    path = distil(tmp_path, asked[2], learner, settings)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [4, 8, 12, 16]
    assert lines[3]["means"] < 0.8 * lines[0]["means"]
    assert lines[3]["details"] < lines[0]["details"]
    assert (tmp_path / CURVES).read_bytes()[:4] == b"\x89PNG"
    assert load_sam(path).family.name == "compact-vit"
    ended = distil(tmp_path, asked[2], Learner(Sizes(settings.width, settings.depth)), settings)
    assert read_log(tmp_path) == lines
    assert all(torch.equal(value, read_state(path)[key]) for key, value in read_state(ended).items())
    other = tmp_path / "stopped"
    distil(other, asked[2], Learner(Sizes(settings.width, settings.depth)), settings, stop_at=8)
    assert [line["step"] for line in read_log(other)] == [4, 8]
    again = distil(other, asked[2], Learner(Sizes(settings.width, settings.depth)), settings)
    assert [line["loss"] for line in read_log(other)] == [line["loss"] for line in lines]
    assert all(torch.equal(value, read_state(path)[key]) for key, value in read_state(again).items())
    follower = Learner(Sizes(settings.width, settings.depth), seed=5)
    follower.start_from(read_state(path))
    one = "image_encoder.blocks.1.mlp.lin1.weight"
    assert torch.equal(follower.state_dict()[one], read_state(path)[one].float())
    with pytest.raises(InputError, match="another batch, lr"):
        distil(tmp_path, asked[2], learner, tiny_settings(16))


def test_a_start_without_a_decoder_is_refused():
    learner = Learner(Sizes(32, 1))
    state = {key: value for key, value in learner.state_dict().items() if not key.startswith("mask_decoder.")}
    with pytest.raises(InputError, match="has no mask_decoder"):
        learner.start_from(state)


def test_tokens_begin_with_all_that_a_patch_shows():
    kernels = cosines(256, 3, 16, 16)
    patch = torch.rand(16, 16)
    token = torch.einsum("wcyx,yx->w", kernels, patch)
    shown = torch.linalg.lstsq(kernels.sum(1).flatten(1), token[:, None]).solution.view(16, 16)
    torch.testing.assert_close(shown, patch, atol=1e-4, rtol=1e-4)
    grey = torch.einsum("wcyx,yx->w", kernels, torch.ones(16, 16))
    assert grey[0].item() == pytest.approx(
        16 * 5 / 16 / 4
    )  # its cosine is 1/16 everywhere; steepness 5, a quarter of it
    assert grey[1:].abs().max() < 1e-4
    assert cosines(320, 3, 16, 16)[256:].abs().max() < 0.15


def test_positions_differ_and_do_not_drown_tokens():
    found = waves(16, 256)[0].flatten(0, 1)
    assert found.abs().max() <= 0.5
    apart = torch.cdist(found, found) + torch.eye(256)
    assert apart.min() > 1e-3


def test_no_views_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least 1"):
        learn_from(tmp_path, Stub(), tiny_bank(), tiny_settings(8), 0, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "200"], "make no encoder"),
        (["--minutes", "-1"], "steps or of minutes"),
        (["--drawn-pictures", "-1"], "no number of pictures"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--out", str(tmp_path), *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
