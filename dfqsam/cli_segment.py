"""The verb ``segment`` of the command line: a picture, a study, or a folder of studies."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfqsam.console import AsJson, print_json
from dfqsam.errors import InputError

if TYPE_CHECKING:
    from dfqsam.imaging import Window
    from dfqsam.segment import Prompt, Segmentation
    from dfqsam.segment.batch import Report
    from dfqsam.segment.prompt import Point

SHEETS = (".png", ".jpg", ".jpeg")


def _numbers(text: str, count: int, what: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        raise InputError(f"{what} {text!r} is not understood; give {count} numbers with commas between, in pixels.")
    return values


def _window(text: str | None) -> Window | str | None:
    from dfqsam.imaging import Window

    if text is None or "," not in text:
        return text
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"The window {text!r} is not understood; give a name or CENTRE,WIDTH such as 40,400."
        ) from None
    return Window(centre, width)


def segment(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[BUNDLE] IMAGE|STUDY|FOLDER", help="What to segment; before it, a bundle."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The mask: .png, .nii.gz, .nii, .dcm (DICOM SEG), .json (COCO); of a FOLDER, a folder.",
        ),
    ],
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="x0,y0,x1,y1 in pixels of the picture or slice; in studies, may be repeated: labels 1, 2 ..."
        ),
    ] = None,
    point: Annotated[
        list[str] | None, typer.Option(help="x,y in pixels, of one object; may be repeated; in studies, on --slice.")
    ] = None,
    label: Annotated[list[int] | None, typer.Option(help="1 inside or 0 outside, one for each point.")] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Write the picture, or some slices, with the mask; of a FOLDER, a folder.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Accept prompts that the model was not trained on.")] = False,
    slice_: Annotated[
        list[int] | None,
        typer.Option("--slice", min=0, help="Slice that the box is on, from 0 on; one for all boxes or one each."),
    ] = None,
    plane: Annotated[
        str | None, typer.Option(help="stored, axial, coronal, sagittal; without it, the one of the thickest slices.")
    ] = None,
    first: Annotated[int | None, typer.Option(min=0, help="No slice before this one.")] = None,
    last: Annotated[int | None, typer.Option(min=0, help="No slice after this one.")] = None,
    no_propagate: Annotated[bool, typer.Option("--no-propagate", help="Only the slices that boxes are on.")] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="CSV: study, slice, x0, y0, x1, y1 or x, y (inside, plane, label, propagate, first, last, series)."
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="CENTRE,WIDTH, percentiles, soft tissue, lung, bone, brain; without it, the file's."),
    ] = None,
    series: Annotated[int | None, typer.Option(min=1, help="Of a folder or zip with several, from 1 on.")] = None,
    volume: Annotated[int | None, typer.Option(min=0, help="Of a study with several (time points), from 0 on.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Of a FOLDER, so many studies side by side.")] = 1,
    ending: Annotated[
        str | None, typer.Option(help="Of a FOLDER's masks, such as .nii.gz; without it, what each study is kept as.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Segment objects in a picture, in a volume from a box or clicks on one slice, or in a folder of studies.

    Without a bundle, the 8-bit LiteMedSAM that comes with dfqsam is used. In a volume (NIfTI, NRRD, MetaImage, a DICOM
    file, folder or zip) an object is followed through the stack both ways until the model loses it. A FOLDER of studies
    goes with --prompts; stopped at any moment, the same command goes on. Exit code 1: some of its studies failed.

    Example: dfqsam segment fundus.png --box 870,600,1080,830 -o disc.png --overlay look.png

    Example: dfqsam segment ct.nii.gz --slice 61 --box 20,25,70,80 -o liver.nii.gz --overlay look.png
    """
    from dfqsam.assets import shipped_bundle
    from dfqsam.segment.batch import segment_folder
    from dfqsam.segment.job import Settings
    from dfqsam.segment.table import read_choices, read_prompts

    if len(paths) > 2:
        raise InputError(f"{len(paths)} paths were given; give a picture, or a bundle and a picture.")
    bundle, study = paths[0] if len(paths) == 2 else shipped_bundle(), paths[-1]
    stack = (
        slice_,
        plane,
        first,
        last,
        no_propagate or None,
        prompts,
        window,
        series,
        volume,
        ending,
    )
    if all(option is None for option in stack) and len(box or ()) < 2 and not _is_volume(study):
        _picture(bundle, study, output, (box or [None])[0], point, label, overlay, force, as_json)
        return
    if prompts is not None and (box or point or slice_ or plane):
        raise InputError("Give --prompts, or --box and --point with --slice and --plane, not both.")
    limits = {"first": first, "last": last} | ({"propagate": False} if no_propagate else {})
    limits = {name: value for name, value in limits.items() if value is not None}
    if prompts is None:
        clicks = _clicks(point or [], label)
        asked = [replace(one, **limits) for one in _boxes(box or [], slice_ or [], plane, clicks)]
    else:
        table = {name: [replace(one, **limits) for one in rows] for name, rows in read_prompts(prompts).items()}
        own = [name for name in table if name.rpartition("/")[2] == study.name and not (study / name).exists()]
        if study.is_dir() and not own:
            if volume is not None:
                raise InputError("For a folder of studies there is no --volume; leave it out.")
            settings = Settings(window=_window(window), ending=ending, overlay=overlay is not None)
            which = {"series": series, "choices": read_choices(prompts)}
            report = segment_folder(bundle, study, table, output, settings, overlay, workers, force, **which)
            _tell_batch(output, report, as_json)
            return
        if len(own) != 1:
            raise InputError(f"{prompts} has {'no row' if not own else 'several studies'} of the name {study.name}.")
        asked = table[own[0]]
        series = series or read_choices(prompts).get(own[0])
    if ending is not None or workers > 1:
        raise InputError("--ending and --workers are for a folder of studies, which goes with --prompts.")
    _study(bundle, study, asked, output, overlay, _window(window), (series, volume), force, as_json)


def _is_volume(path: Path) -> bool:
    """Whether there is something else than a picture, or than nothing that can be read."""
    from dfqsam.imaging import sniff

    try:
        return sniff(path) in ("nifti", "dicom", "itk", "zip", "folder")
    except InputError:  # said again, in words for pictures
        return False


def _picture(
    bundle: Path,
    path: Path,
    output: Path,
    box: str | None,
    point: list[str] | None,
    label: list[int] | None,
    overlay: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    from dfqsam.imaging.raster import read_picture, write_mask, write_picture
    from dfqsam.runtime import Predictor
    from dfqsam.runtime.overlay import draw_box, draw_mask

    picture = read_picture(path)
    corners = None if box is None else _numbers(box, 4, "The box")
    coords = [_numbers(text, 2, "The point") for text in point or []] or None
    labels = None if coords is None else (label or [1] * len(coords))
    predictor = Predictor(bundle, force_prompts=force)
    predictor.check_prompt(picture.shape[:2], coords, labels, corners)
    predictor.set_image(picture)
    masks, quality, _ = predictor.predict(coords, labels, corners)
    write_mask(output, masks[0])
    if overlay:
        drawn = draw_mask(picture, masks[0])
        write_picture(overlay, drawn if corners is None else draw_box(drawn, corners))
    area, iou = int(masks[0].sum()), float(quality[0])
    if as_json:
        print_json({"mask": str(output), "pixels": area, "predicted_iou": iou})
    else:
        print(f"{output}: {area} pixels, predicted IoU {iou:.2f}")


def _clicks(points: list[str], labels: list[int] | None) -> tuple[tuple[Point, ...], tuple[bool, ...]]:
    """Clicks on an object, and whether each is inside of it."""
    coords = [_numbers(text, 2, "The point") for text in points]
    marks = labels or [1] * len(coords)
    if len(marks) != len(coords) or not {*marks} <= {0, 1}:
        raise InputError(f"There are {len(coords)} points and the labels {marks}; give 1 or 0 for each point.")
    return tuple((x, y) for x, y in coords), tuple(mark == 1 for mark in marks)


def _boxes(
    boxes: list[str], slices: list[int], plane: str | None, clicks: tuple[tuple[Point, ...], tuple[bool, ...]]
) -> list[Prompt]:
    from dfqsam.imaging import PLANES
    from dfqsam.segment import Prompt

    if plane is not None and plane not in PLANES:
        raise InputError(f"The plane {plane!r} is none of {', '.join(PLANES)}.")
    points, inside = clicks
    if points and len(boxes) > 1:
        raise InputError("Points on one of several boxes cannot be told apart; name prompts in a table: --prompts.")
    if points and not boxes:
        if len(slices) > 1:
            raise InputError(f"There are points of one object and {len(slices)} slices; give one slice.")
        return [Prompt(None, slices[0] if slices else None, plane, points=points, inside=inside)]
    if len(slices) not in (0, 1, len(boxes)):
        raise InputError(f"There are {len(boxes)} boxes and {len(slices)} slices; give one slice, or one for each box.")
    where = slices if len(slices) == len(boxes) else (slices or [None]) * len(boxes)
    made = []
    for number, (text, k) in enumerate(zip(boxes, where, strict=True), 1):
        x0, y0, x1, y1 = _numbers(text, 4, "The box")
        made.append(Prompt((x0, y0, x1, y1), k, plane, number, points=points, inside=inside))
    return made


def _study(
    bundle: Path,
    path: Path,
    prompts: list[Prompt],
    output: Path,
    overlay: Path | None,
    window: Window | str | None,
    which: tuple[int | None, int | None],
    force: bool,
    as_json: bool,
) -> None:
    from dfqsam.imaging import open_study, write_picture
    from dfqsam.runtime import Predictor
    from dfqsam.segment import segment_study
    from dfqsam.segment.outputs import check_output, write_segmentation
    from dfqsam.segment.sheet import contact_sheet

    check_output(output)
    if overlay is not None:
        check_output(overlay, SHEETS)
    opened = open_study(path, *which)
    found = segment_study(Predictor(bundle, force_prompts=force), opened, prompts, window=window)
    write_segmentation(output, found)
    if overlay is not None:
        write_picture(overlay, contact_sheet(found, window))
    if as_json:
        print_json({"mask": str(output), **found.to_json()})
    else:
        _tell(output, found)


def _tell(output: Path, found: Segmentation) -> None:
    for one in found.found:
        print(one)
    for label, name in found.names.items():
        ml, voxels = found.ml(label), int((found.mask == label).sum())
        size = f"{voxels} voxels" if ml is None else f"{ml:.2f} ml ({voxels} voxels)"
        print(f"{output}: {name or f'label {label}'}, {size}")
    for note in found.overlap_notes():
        print(note)


def _tell_batch(output: Path, report: Report, as_json: bool) -> None:
    """Print what was done; exit code 1 where a study failed."""
    if as_json:
        failed = [{"study": study, "error": text} for study, text in report.failed]
        print_json({"done": report.done, "done_before": report.before, "failed": failed, "notes": report.notes})
    else:
        print(
            f"{output}: {len(report.done)} studies segmented, {len(report.before)} were done before, "
            f"{len(report.failed)} failed; {output / 'volumes.csv'} has the volumes"
        )
        for note in report.notes:
            print(note)
        for study, text in report.failed:
            print(f"{study}: {text}", file=sys.stderr)
    if report.failed:
        raise typer.Exit(1)
