"""The ``dataset.json`` of MONAI, the Medical Segmentation Decathlon and nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dfqsam.errors import InputError
from dfqsam.evaluate.samples import Sample
from dfqsam.evaluate.sources_volumes import LevelWidth, slices_of
from dfqsam.progress import track


def _names(labels: Any) -> dict[int, str]:
    """Values to names, whichever way round (Decathlon: value to name; nnU-Net: name to value)."""
    found = {}
    for one, other in labels.items() if isinstance(labels, dict) else ():
        value, name = (one, other) if str(one).isdigit() else (other, one)
        if str(value).isdigit():
            found[int(value)] = str(name)
    return found


def decathlon(
    path: Path, slices: int | None = None, window: LevelWidth | None = None, series: int | None = None
) -> list[Sample]:
    """The slices of what a ``dataset.json`` lists with a label: under ``validation`` where that has labels, else under
    ``training``.

    Raises:
        InputError: when the file is no such list, or names files that are not there, and as :func:`slices_of`.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is no valid JSON; give the dataset.json of a Decathlon or MONAI data set.") from error
    lists = document if isinstance(document, dict) else {}
    for part in ("validation", "training"):
        listed = lists.get(part)
        entries = [e for e in listed if isinstance(e, dict) and e.get("label")] if isinstance(listed, list) else []
        if entries:
            break
    else:
        raise InputError(f"{path} lists no image with a label under validation or training; is it a dataset.json?")
    modalities = lists.get("modality") or lists.get("channel_names")
    modality = str(modalities.get("0", "")) if isinstance(modalities, dict) else ""
    title = str(lists.get("name") or path.resolve().parent.name)
    names, found = _names(lists.get("labels")), []
    for entry in track(entries, "Reading the masks"):
        image = entry.get("image")
        first = image[0] if isinstance(image, list) and image else image
        if not isinstance(first, str) or not isinstance(entry["label"], str):
            raise InputError(f"{path} has an entry without the names of an image and a label.")
        found += slices_of(
            path.parent / first,
            path.parent / entry["label"],
            name=first,
            dataset=title,
            patient=str(entry.get("patient") or first),
            modality=modality,
            names=names,
            slices=slices,
            window=window,
            series=series,
        )
    return found
