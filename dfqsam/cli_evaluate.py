"""The verbs ``evaluate`` and ``accept`` of the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfqsam import audit
from dfqsam.cli_trust import open_signer
from dfqsam.console import AsJson, print_json
from dfqsam.errors import InputError

if TYPE_CHECKING:
    from dfqsam.bundle.sign import Signer
    from dfqsam.evaluate.models import Models

Reference = Annotated[Path | None, typer.Option(help="A bundle with the full-precision graphs, where BUNDLE has none.")]
Boxes = Annotated[
    Path | None, typer.Option(help="CSV with image, x0, y0, x1, y1 (and patient): boxes in place of reference masks.")
]
Split = Annotated[str, typer.Option(help="Of a manifest.csv.")]
Label = Annotated[list[str] | None, typer.Option(help="Only this kind of object; may be repeated.")]
Slices = Annotated[int | None, typer.Option(min=1, help="Of a volume and object at most so many; without it, all.")]
WindowText = Annotated[str | None, typer.Option(help="LEVEL,WIDTH for volumes; without it, what suits the modality.")]
Series = Annotated[int | None, typer.Option(min=1, help="Of folders and zips with several series of DICOM, from 1 on.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random draw.")]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pictures asked about at once, each with both models in memory; without it, one a core, at most 4."
    ),
]


def _need_extra() -> None:
    missing = [name for name in ("scipy", "matplotlib") if find_spec(name) is None]
    if missing:
        raise InputError(f"This command needs {missing[0]}; install it with: pip install 'dfqsam[evaluate]'.")


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        level, width = (float(part) for part in text.split(","))
    except ValueError:
        level, width = 0.0, 0.0
    if not 0 < width < float("inf"):
        raise InputError(
            f"The window {text!r} is not understood; give LEVEL,WIDTH with a width above 0, such as 40,400."
        )
    return level, width


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The quantized bundle.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of pictures or volumes with reference masks.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of figures and report.")] = Path("evaluation"),
    reference: Reference = None,
    prompts: Annotated[
        str | None, typer.Option(help="exact, jittered, click, clicks, with commas; without it, all that it takes.")
    ] = None,
    boxes: Boxes = None,
    split: Split = "validation",
    label: Label = None,
    slices: Slices = None,
    window: WindowText = None,
    series: Series = None,
    seed: Seed = 0,
    workers: Workers = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Put pictures of the worst cases, patients' data, into the report.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare a quantized bundle with its full precision on pictures with reference masks.

    DATA has a manifest.csv, a dataset.json (MONAI, Decathlon, nnU-Net), or two folders images and masks with files of
    the same names (PNG, JPEG, TIFF, NIfTI, DICOM, NRRD or MetaImage). Nothing leaves the machine. A run that was
    stopped goes on where it was.

    Example: dfqsam evaluate bundle DATA -o evaluation --reference full
    """
    _need_extra()
    from dfqsam.evaluate.models import open_models
    from dfqsam.evaluate.run import Work, run_evaluation
    from dfqsam.evaluate.sources import open_data

    models = open_models(bundle, reference)
    which: dict[str, Any] = {"slices": slices, "window": _window(window), "series": series}
    samples = open_data(data, split=split, boxes=boxes, labels=label or (), **which)
    summary = run_evaluation(models, samples, output, Work(_names(prompts), seed, workers), pictures)
    if as_json:
        print_json(summary)
        return
    for prompt, part in summary["prompts"].items():
        means = part["mean_over_data_sets"]
        text = f"{prompt}: {means['cases']} cases of {means['patients']} patients"
        if "dice_fp" in means:
            text += f", Dice {_points(means['dice_fp'])} in full precision and {_points(means['dice_q'])} quantized"
        print(f"{text}, agreement {_points(means.get('agreement'))}")
    print(f"{output / 'report.html'}: look at it; {output / 'results.csv'} has every case")


def accept(
    bundle: Annotated[Path | None, typer.Argument(metavar="BUNDLE", help="The quantized bundle.")] = None,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="As of evaluate; patients are the unit.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of record and report.")] = Path("acceptance"),
    margin: Annotated[float, typer.Option(help="Of the mean loss of Dice, 0 to 1.")] = 0.02,
    nsd_margin: Annotated[
        float | None, typer.Option(help="Of the mean loss of surface Dice at 2 mm; without it, as --margin.")
    ] = None,
    agreement: Annotated[
        float, typer.Option(help="Without reference masks, the Dice that both models must reach.")
    ] = 0.97,
    per_label: Annotated[bool, typer.Option("--per-label", help="Every kind of object must pass by itself.")] = False,
    reference: Reference = None,
    prompt: Annotated[str | None, typer.Option(help="exact, jittered, click or clicks; the first it takes.")] = None,
    boxes: Boxes = None,
    split: Split = "validation",
    label: Label = None,
    slices: Slices = None,
    window: WindowText = None,
    series: Series = None,
    seed: Seed = 0,
    workers: Workers = None,
    key: Annotated[
        Path | None, typer.Option(help="Sign the verdict with this private key, for dfqsam verify --acceptance.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only say how many patients a study needs.")] = False,
    sigma: Annotated[float, typer.Option(help="For --plan: standard deviation of patients' losses.")] = 0.05,
    power: Annotated[float, typer.Option(help="For --plan: chance to pass.")] = 0.9,
    expected: Annotated[float, typer.Option(help="For --plan: mean loss that is expected.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Decide on local patients whether a quantized bundle is as good as its full precision.

    Exit code: 0 for PASS, 1 for FAIL, 3 for INCONCLUSIVE, 2 for a mistake in the call. acceptance.json holds aggregates
    only and may leave the site; the other files may not. With -o evaluation, what evaluate has measured there is used.

    Example: dfqsam accept bundle DATA -o acceptance --margin 0.02 --reference full
    """
    _need_extra()
    from dfqsam.evaluate.accept import Rules
    from dfqsam.evaluate.verdict import EXIT

    rules = Rules(margin, nsd_margin, agreement, per_label, seed)
    if plan:
        _plan(sigma, margin, power, expected, as_json)
        return
    if bundle is None or data is None:
        raise InputError("Give BUNDLE and DATA: dfqsam accept BUNDLE DATA; or --plan to plan a study.")
    from dfqsam.evaluate.models import open_models
    from dfqsam.evaluate.run import Work, run_acceptance
    from dfqsam.evaluate.sources import open_data

    signer = None if key is None else open_signer(key)
    models = open_models(bundle, reference)
    which: dict[str, Any] = {"slices": slices, "window": _window(window), "series": series}
    samples = open_data(data, split=split, boxes=boxes, labels=label or (), **which)
    kinds = None if prompt is None else [prompt]
    judgement, document = run_acceptance(models, samples, output, rules, Work(kinds, seed, workers))
    _conclude(models, output, document, signer)
    if as_json:
        print_json(document)
    else:
        print(f"{judgement.verdict.word}: {judgement.verdict.reason}")
        if signer is not None:
            print(f"{output / 'acceptance.json.sig'}: signed by {key} ({signer.public.fingerprint[:16]})")
        print(f"{output / 'acceptance.json'} may leave the site; {output / 'acceptance.html'} may not")
    raise typer.Exit(EXIT[judgement.verdict.word])


def _conclude(models: Models, folder: Path, document: dict[str, Any], signer: Signer | None) -> None:
    """Sign the record, write what the verdict is in words of a change record, and log it."""
    from hashlib import sha256

    from dfqsam.bundle.records import CHANGE, change_record
    from dfqsam.evaluate import files
    from dfqsam.evaluate.record import RECORD, signable

    manifest = models.quantized.manifest
    files.write(folder / CHANGE, change_record(manifest, manifest.sha256, document).encode())
    if signer is not None:
        from dfqsam.bundle.sign import sign_record

        sign_record(folder / RECORD, signer)
    else:  # one of an earlier verdict is no longer true
        (folder / f"{RECORD}.sig").unlink(missing_ok=True)
    audit.record(
        "accept",
        bundle=manifest.sha256,
        reference=models.reference.sha256,
        verdict=document["verdict"],
        record=sha256(signable(document)).hexdigest(),
        key=None if signer is None else signer.public.fingerprint,
    )


def _plan(sigma: float, margin: float, power: float, expected: float, as_json: bool) -> None:
    from dfqsam.evaluate.statistics import patients_for_mean, patients_for_share
    from dfqsam.evaluate.verdict import TAIL_LOSS, TAIL_SHARE

    mean = patients_for_mean(sigma, margin, power, expected)
    if mean is None:
        raise InputError(f"A loss of {expected:g} cannot be shown to be below {margin:g}; expect less or allow more.")
    shares = {count: patients_for_share(count / 1000, TAIL_SHARE) for count in (0, 10, 20)}
    tail = shares[0] or 0
    if as_json:
        document = {"sigma": sigma, "margin": margin, "power": power, "expected": expected, "mean": mean}
        print_json({**document, "tail": tail, "patients": max(mean, tail)})
        return
    print(
        f"{max(mean, tail)} patients: {mean} for the mean loss (margin {margin:g}, sigma {sigma:g}, power {power:.0%});"
    )
    print(f"{tail} to show that at most {TAIL_SHARE:.0%} lose more than {TAIL_LOSS:g}, if none does;")
    print(f"{shares[10]} if 1 in 100 does, {shares[20]} if 2 in 100 do")
