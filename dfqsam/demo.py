"""The demonstration behind ``make demo``: quantize LiteMedSAM without data, then segment real pictures with it.

The pictures come with scikit-image (a fundus photograph, a histological section) and pydicom (a CT slice).

    python -m dfqsam.demo FOLDER
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dfqsam.bundle import Bundle
from dfqsam.evaluate.metrics import dice
from dfqsam.imaging.raster import write_picture
from dfqsam.pipeline import quantize
from dfqsam.runtime import Predictor
from dfqsam.runtime.overlay import panel

PROFILES = ("w8a8", "w4a8")
REPEATS = 5
SHOWN_HEIGHT = 420
Picture = NDArray[np.uint8]


def pictures() -> list[tuple[str, Picture, list[int]]]:
    """Name, H x W x 3 picture and a box (x0, y0, x1, y1 in pixels) around something that a doctor would outline."""
    import skimage.data

    return [
        ("fundus: optic disc", skimage.data.retina(), [125, 530, 335, 780]),
        ("histology: gland", skimage.data.immunohistochemistry(), [248, 300, 388, 510]),
        ("CT: aorta", ct_slice(), [70, 0, 111, 27]),
    ]


def ct_slice() -> Picture:
    """pydicom's CT slice in a soft-tissue window (-160 to 240 HU)."""
    import pydicom
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    units = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    grey = np.clip((units + 160) / 400 * 255, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))


def segment(bundle: Bundle, full_precision: bool) -> tuple[list[NDArray[np.bool_]], float]:
    """The mask of every picture, and the median time to encode one in milliseconds."""
    predictor, found, times = Predictor(bundle, full_precision=full_precision), [], []
    for _, picture, box in pictures():
        for _ in range(REPEATS):
            start = time.perf_counter()
            predictor.set_image(picture)
            times.append(1000 * (time.perf_counter() - start))
        found.append(np.asarray(predictor.predict(box=box)[0][0], bool))
    return found, statistics.median(times)


def shown(
    picture: Picture, full: NDArray[np.bool_], quantized: NDArray[np.bool_], box: list[int], name: str
) -> Picture:
    """The comparison of one picture, at a height that fits a page."""
    import cv2

    scale = SHOWN_HEIGHT / picture.shape[0]
    size = (round(picture.shape[1] * scale), SHOWN_HEIGHT)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(picture, size, interpolation=method), np.uint8)
    masks = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for mask in (full, quantized)]
    titles = (f"{name}, full precision", "quantized to 8 bits", "difference")
    return panel(small, masks[0], masks[1], [corner * scale for corner in box], titles)


def run(folder: Path) -> None:
    """Writes bundles and ``overlay.png`` below ``folder`` and prints the table."""
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    bundles = {p: quantize(None, folder / p, profile=p, full_precision=p == PROFILES[0]) for p in PROFILES}
    seconds = time.perf_counter() - start
    first = bundles[PROFILES[0]]
    full, full_time = segment(first, full_precision=True)

    table = Table("encoder", "weight bits", "activation bits", "file MB", "ms a picture", "agreement Dice")
    size = first.manifest.files["encoder_fp32.onnx"].bytes / 1e6
    table.add_row("full precision", "32", "32", f"{size:.1f}", f"{full_time:.0f}", "100.0")
    for profile, bundle in bundles.items():
        masks, milliseconds = segment(bundle, full_precision=False)
        agreement = 100 * statistics.fmean(dice(a, b) for a, b in zip(full, masks, strict=True))
        settings, size = bundle.manifest.quantization, bundle.manifest.files["encoder.onnx"].bytes / 1e6
        bits = str(settings["weight_bits"]), str(settings["activation_bits"])
        table.add_row(profile, *bits, f"{size:.1f}", f"{milliseconds:.0f}", f"{agreement:.1f}")
        if profile == PROFILES[0]:
            rows = [shown(p, a, b, box, n) for (n, p, box), a, b in zip(pictures(), full, masks, strict=True)]
            widest = max(row.shape[1] for row in rows)
            padded = [np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0))) for row in rows]
            write_picture(folder / "overlay.png", np.vstack(padded))
    console.print(table)
    console.print(
        f"Quantized twice in {seconds:.0f} s; no image was read for it. "
        f"Agreement is with the full-precision masks of {len(full)} pictures."
    )
    console.print(f"Look at {folder / 'overlay.png'}.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m dfqsam.demo FOLDER")
    run(Path(sys.argv[1]))
