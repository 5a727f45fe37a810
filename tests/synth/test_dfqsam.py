import contextlib
import dataclasses

import torch

from dfqsam.config import SynthesisConfig
from dfqsam.sam.vit import ViTConfig
from dfqsam.synth.batching import batches
from dfqsam.synth.dfqsam import Former, schedule
from dfqsam.synth.prior import SAMSelfPrior
from dfqsam.synth.synthesize import computed_by, steps, synthesize
from tests.small_sam import tiny_sam

CONFIG = SynthesisConfig("dfqsam", images=3, steps=8, batch=2)


def test_the_statistics_and_the_segmentation_loss_fall():
    history: list[dict[str, float]] = []

    def advance(_: float = 1, **terms: float) -> None:
        if terms:
            history.append(terms)

    made = synthesize(tiny_sam(), dataclasses.replace(CONFIG, images=2, steps=24, early=0), advance)
    assert made.images.shape == (2, 3, 64, 64)
    assert 0 <= float(made.images.min()) <= float(made.images.max()) <= 1
    assert history[-1]["statistics"] < 0.9 * history[0]["statistics"]
    assert [snapshot.title for snapshot in made.snapshots] == ["start", "middle", "end"]
    assert made.provenance["prior"]["kind"] == "self"
    assert made.provenance["settings"]["seed"] == 0


def test_the_same_seed_gives_the_same_set_and_another_seed_another():
    first, second = synthesize(tiny_sam(), CONFIG), synthesize(tiny_sam(), CONFIG)
    assert first.sha256 == second.sha256
    assert synthesize(tiny_sam(), dataclasses.replace(CONFIG, seed=1)).sha256 != first.sha256


def test_a_run_that_was_cut_off_goes_on_and_ends_alike(tmp_path):
    calls = 0

    def cut(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls > CONFIG.steps:  # in the second batch
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        synthesize(tiny_sam(), CONFIG, cut, tmp_path)
    assert len(list(tmp_path.glob("batch-*.safetensors"))) == 1
    reported: list[float] = []
    resumed = synthesize(tiny_sam(), CONFIG, lambda n=1, **_: reported.append(n), tmp_path)
    assert reported[0] == CONFIG.steps
    assert sum(reported) == steps(tiny_sam(), CONFIG)
    assert resumed.sha256 == synthesize(tiny_sam(), CONFIG).sha256
    assert [len(s.images) for s in resumed.snapshots] == [3, 3, 3]
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"damaged")
    assert synthesize(tiny_sam(), CONFIG, work=tmp_path).sha256 == resumed.sha256


def test_batches_that_another_machine_formed_are_left_alone(tmp_path, monkeypatch):
    synthesize(tiny_sam(), CONFIG, work=tmp_path)
    known = computed_by(torch.device("cpu"))
    monkeypatch.setattr("dfqsam.synth.synthesize.computed_by", lambda _: known | {"device": "cuda"})
    reported: list[float] = []
    synthesize(tiny_sam(), CONFIG, lambda n=1, **_: reported.append(n), tmp_path)
    assert set(reported) == {1}
    assert len(list(tmp_path.glob("batch-*.safetensors"))) == 4


def test_every_option_runs_and_is_told_apart():
    hashes = {
        synthesize(tiny_sam(), dataclasses.replace(CONFIG, images=2, steps=4, **change)).sha256
        for change in (
            {},
            {"evolve": False, "batch_norm": False},
            {"batch_norm": False},
            {"attention": True},
            {"easy_to_hard": True},
            {"start": "noise"},
            {"early": 0.5},
        )
    }
    assert len(hashes) == 7


def test_images_stop_when_the_turned_view_gets_worse():
    sam = tiny_sam()
    former = Former(sam, CONFIG, SAMSelfPrior(sam.prompt_encoder, sam.mask_decoder, ("box",), 64))
    judged = iter([1.0, 2.0, 3.0, 4.0])
    former.held_out = lambda _: next(judged)  # type: ignore[method-assign]
    former.config = dataclasses.replace(CONFIG, steps=40)
    batch = former.start(slice(0, 2))
    reported: list[float] = []
    former.form(batch, lambda n=1, **_: reported.append(n))
    assert batch.steps == 12
    assert sum(reported) == 40
    assert batch.losses["held_out"] == 1.0


def test_an_encoder_of_one_resolution_and_without_batch_norm_is_served_too():
    from dfqsam.sam.vit import ViT

    sam = tiny_sam()
    torch.manual_seed(0)
    vit = ViT(ViTConfig(64, 4, 32, 2, 2, (1,), 7)).eval().requires_grad_(False)
    family = dataclasses.replace(sam.family, depth=2)
    made = synthesize(
        dataclasses.replace(sam, family=family, encoder=vit),
        dataclasses.replace(CONFIG, images=2, steps=2, attention=True),
    )
    assert made.provenance["batch_norm_layers"] == 0
    assert len(made) == 2


def test_batches_and_schedule():
    assert [(b.start, b.stop) for b in batches(tiny_sam(), SynthesisConfig(images=5, batch=2))] == [
        (0, 2),
        (2, 4),
        (4, 5),
    ]
    rates = [schedule(step, 20) for step in range(20)]
    assert rates[0] == 0.5
    assert rates[1] == max(rates) == 1
    assert min(rates) >= 0.1
