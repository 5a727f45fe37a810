"""The command line: one verb a command, thin; it parses, calls and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dfqsam import (
    __version__,
    audit,
    cli_app,
    cli_audit,
    cli_bench,
    cli_checkpoint,
    cli_evaluate,
    cli_inspect,
    cli_judgement,
    cli_models,
    cli_records,
    cli_segment,
    cli_serve,
    cli_trust,
)
from dfqsam.cli_policy import audited, opens_bundles, reads_checkpoints
from dfqsam.config import BLOCKS, INTEGER, METHODS, PAPER, PRESETS, PROFILES, SIZE_ONLY, STARTS, SynthesisConfig
from dfqsam.console import AsJson, need_torch, print_json, two_columns
from dfqsam.errors import DfqsamError, InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Quantize a Segment Anything model without data, and segment medical pictures with the result.",
)


def main() -> NoReturn:
    """Entry point: a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _version(asked: bool) -> None:
    if asked:
        print(f"dfqsam {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    del version  # its callback has done the work


Checkpoint = Annotated[Path | None, typer.Argument(help="A .pth or .safetensors file; without one, LiteMedSAM.")]
Method = Annotated[str, typer.Option(help=f"How calibration images are made: {', '.join(METHODS)}.")]
Images = Annotated[int, typer.Option(min=1, max=4096, help="How many calibration images.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of every random draw.")]
Family = Annotated[str | None, typer.Option(help="Overrides the recognised family, e.g. medsam.")]
ImageSize = Annotated[int | None, typer.Option(help="Side of the encoder's input in pixels.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images and steps, for a first look.")]


@app.command()
@reads_checkpoints
def synthesize(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the synthetic set.")],
    checkpoint: Checkpoint = None,
    method: Method = "dfqsam",
    images: Images = SynthesisConfig.images,
    seed: Seed = 0,
    steps: Annotated[
        int, typer.Option(min=1, max=100_000, help="Optimisation steps of each batch.")
    ] = SynthesisConfig.steps,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Images optimised together.")] = SynthesisConfig.batch,
    start: Annotated[str, typer.Option(help=f"What images begin as: {', '.join(STARTS)}.")] = SynthesisConfig.start,
    evolve: Annotated[bool, typer.Option(help="Let pseudo masks grow by what the prior is sure of.")] = True,
    batch_norm: Annotated[bool, typer.Option(help="Match the statistics that batch norms keep.")] = True,
    attention: Annotated[bool, typer.Option("--attention", help="Attention follows the pseudo masks.")] = False,
    easy_to_hard: Annotated[bool, typer.Option("--easy-to-hard", help="Crops grow smaller as images form.")] = False,
    prior: Annotated[Path | None, typer.Option(help="A TorchScript or ONNX network, as the prior.")] = None,
    prior_classes: Annotated[str, typer.Option(help="Its classes, the background first: background,liver.")] = "",
    quick: Quick = False,
    family: Family = None,
    image_size: ImageSize = None,
    as_json: AsJson = False,
) -> None:
    """Make calibration images from a checkpoint and a seed alone. A run that was stopped goes on where it was.

    Example: dfqsam synthesize -o images --images 32 && dfqsam quantize -o bundle --calibration images
    """
    need_torch()
    from dfqsam.pipeline import make_images

    names = tuple(name.strip() for name in prior_classes.split(",") if name.strip())
    path = None if prior is None else str(prior)
    config = SynthesisConfig(
        method=method,
        images=images,
        seed=seed,
        start=start,
        steps=steps,
        batch=batch,
        evolve=evolve,
        batch_norm=batch_norm,
        attention=attention,
        easy_to_hard=easy_to_hard,
        prior=path,
        prior_classes=names,
    )
    made = make_images(checkpoint, output, config.quick() if quick else config, family, image_size)
    if as_json:
        print_json({"set": str(output), "images": len(made), "sha256": made.sha256, **made.provenance})
    else:
        print(f"{output}: {len(made)} images of {made.images.shape[-1]} px; look at {output / 'sheet.png'}")


@app.command()
@audited
@reads_checkpoints
def quantize(
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the bundle.")],
    checkpoint: Checkpoint = None,
    profile: Annotated[str, typer.Option(help=f"Bits of weights and activations: {', '.join(PROFILES)}.")] = "w8a8",
    block: Annotated[
        int | None, typer.Option(help=f"Weights that share a scale in {SIZE_ONLY}: {', '.join(map(str, BLOCKS))}.")
    ] = None,
    preset: Annotated[str, typer.Option(help=f"How long it is mended: {', '.join(PRESETS)}.")] = "fast",
    target_size: Annotated[
        float | None, typer.Option(min=0.01, help="MB (10^6 bytes) of the encoder's file; layers get 4 or 8 bits.")
    ] = None,
    target_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Agreement of masks on synthetic images; layers get 4 or 8 bits."),
    ] = None,
    method: Method = SynthesisConfig.method,
    images: Images = SynthesisConfig.images,
    seed: Seed = 0,
    calibration: Annotated[Path | None, typer.Option(help="A set that dfqsam synthesize has made.")] = None,
    resynthesize: Annotated[bool, typer.Option(help="Make images even where a shipped set would serve.")] = False,
    quick: Quick = False,
    family: Family = None,
    image_size: ImageSize = None,
    integer_decoder: Annotated[bool, typer.Option(help="8-bit activations in the mask decoder too.")] = False,
    with_full_precision: Annotated[bool, typer.Option(help="Add the full-precision graphs, to compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a checkpoint's image encoder without data and write a bundle.

    LiteMedSAM takes the images that ship with dfqsam. Other checkpoints get theirs made first, by default with DFQ-SAM
    where the encoder keeps batch-norm statistics (TinyViT) and as drawn shapes, which takes seconds, where it does not.

    Example: dfqsam quantize sam_vit_b_01ec64.pth -o bundle --profile w4a8
    """
    need_torch()
    from dfqsam.bundle.facts import facts
    from dfqsam.pipeline import quantize as run

    plain = SynthesisConfig(method=method, images=images, seed=seed)
    synthesis = plain.quick() if quick else plain
    bundle = run(
        checkpoint,
        output,
        profile=profile,
        preset=preset,
        block=block,
        target_bytes=None if target_size is None else int(target_size * 1e6),
        target_agreement=target_agreement,
        synthesis=synthesis,
        calibration=calibration,
        resynthesize=resynthesize,
        work=output.with_name(f".{output.name}.work"),
        family=family,
        image_size=image_size,
        full_precision=with_full_precision,
        integer_decoder=integer_decoder,
    )
    manifest = bundle.manifest
    made_of = manifest.model.checkpoint_sha256
    audit.record("quantize", checkpoint=made_of, bundle=manifest.sha256, profile=manifest.profile)
    if as_json:
        print_json({"bundle": str(bundle.path), "sha256": manifest.sha256, **json.loads(manifest.to_json())})
        return
    two_columns(f"Bundle {bundle.path}", facts(manifest))


@app.command()
def experiment(
    data: Annotated[Path, typer.Argument(help="Pictures, reference masks and a manifest.csv.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that figures are kept in.")],
    rows: Annotated[str | None, typer.Option(help="Calibration sources, with commas; without, all.")] = None,
    columns: Annotated[str, typer.Option(help="Settings, with commas.")] = ",".join((*PAPER, *INTEGER)),
    seeds: Annotated[str, typer.Option(help="Seeds of the synthesis, with commas.")] = "0",
    reparameterize: Annotated[str, typer.Option(help="Targets, 'rotation' and 'none', with commas.")] = "center,none",
    rungs: Annotated[str, typer.Option(help="Of the ladder of techniques, with commas.")] = "corrected",
    images: Images = SynthesisConfig.images,
    masks: Annotated[int, typer.Option(min=0, help="Judge on about so many masks; 0 for the whole split.")] = 150,
    checkpoint: Annotated[Path | None, typer.Option(help="Without one, LiteMedSAM.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure calibration sources against settings; what is measured is kept, and a stopped run goes on.

    Example: dfqsam experiment DATA -o figures --rows shapes,dfqsam-bn,real --columns w8a8,W4A4
    """
    need_torch()
    from dfqsam.experiment import agreement_chart, markdown
    from dfqsam.experiment import run as measure
    from dfqsam.experiment.rows import ROWS

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise InputError(f"The seeds {seeds!r} are not understood; give whole numbers with commas between.") from None
    targets = [None if target == "none" else target for target in reparameterize.split(",")]
    names = ROWS if rows is None else rows.split(",")
    steps = rungs.split(",")
    cells = measure(output, data, names, columns.split(","), numbers, images, masks or None, checkpoint, targets, steps)
    (output / "table.md").write_text(table := markdown(cells, f"dfqsam experiment DATA -o {output.name}"))
    agreement_chart(cells, output / "agreement.png")
    if as_json:
        print_json(cells)
    else:
        print(table)


# In the order of the help: below what is defined above.
app.command()(opens_bundles(cli_inspect.inspect, computes=False))
app.command()(opens_bundles(cli_bench.bench, computes=False))
app.add_typer(cli_models.app, name="models", invoke_without_command=True)
app.command()(audited(opens_bundles(cli_segment.segment)))
app.command()(audited(opens_bundles(cli_evaluate.evaluate)))
app.command()(audited(opens_bundles(cli_evaluate.accept)))
app.command()(cli_judgement.judgements)
app.command()(audited(opens_bundles(cli_app.app)))
app.command()(audited(opens_bundles(cli_serve.serve, says=False)))
app.command()(cli_trust.keygen)
app.command()(audited(cli_trust.sign))
app.command()(audited(cli_trust.verify))
app.command()(reads_checkpoints(cli_checkpoint.convert))
app.command()(cli_records.sbom)
app.add_typer(cli_audit.app, name="audit")
