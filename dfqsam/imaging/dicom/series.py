"""From files to one series, and from a series to a Volume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.geometry import Placed, Stack, stack
from dfqsam.imaging.dicom.instance import Instance, has_picture, instance
from dfqsam.imaging.dicom.pixels import frames_of
from dfqsam.imaging.dicom.reading import Item, is_dicom, read_dataset, tolerant
from dfqsam.imaging.dicom.worker import Worker
from dfqsam.imaging.files import MAX_VOXELS, size_of
from dfqsam.imaging.volume import DicomSource, Volume
from dfqsam.progress import track

Group = list[Instance]


@dataclass(frozen=True)
class Series:
    """One series of a folder, without anything that names a patient.

    Args:
        number: place in the list, from 1 on; what ``open_study(series=...)`` takes.
        modality: DICOM's code.
        images: frames.
        rows: of the first image, pixels.
        columns: of the first image, pixels.
    """

    number: int
    modality: str
    images: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.number}: {self.modality or 'unknown'}, {self.images} of {self.columns} x {self.rows}"


def _instances(items: Iterable[Item], place: str, alone: bool) -> Group:
    """The pictures among the files, headers only; what is no DICOM or no picture is passed over, damage is an error."""
    found: Group = []
    for item in track(list(items), "headers"):
        with item.open() as file, tolerant(item.name):
            if not is_dicom(file.read(132)) and not alone:
                continue
            dataset = read_dataset(file, item.name)
            if has_picture(dataset, item.name):
                found.append(instance(item, dataset, size_of(file)))
            elif alone:
                raise InputError(f"{place} holds no picture but a DICOM object of another kind; give the images.")
    if not found:
        raise InputError(f"{place} holds no DICOM pictures; give a folder with a series, or a file.")
    return found


def _grouped(found: Group) -> list[Group]:
    """By series, in the order of their numbers."""
    groups: dict[str, Group] = {}
    for made in found:
        groups.setdefault(made.series, []).append(made)

    return [groups[uid] for uid in sorted(groups, key=lambda uid: (groups[uid][0].series_number, uid))]


def _listed(groups: list[Group]) -> list[Series]:
    return [
        Series(i, g[0].modality, sum(len(made.frames) for made in g), g[0].rows, g[0].columns)
        for i, g in enumerate(groups, 1)
    ]


def list_series(items: Iterable[Item], place: str) -> list[Series]:
    """The series among the files, in the order that ``read_series`` counts them.

    Raises:
        InputError: when there are none.
    """
    return _listed(_grouped(_instances(items, place, False)))


def _chosen(groups: list[Group], place: str, series: int | None) -> Group:
    listed = "; ".join(str(one) for one in _listed(groups)[:20])
    if series is None:
        if len(groups) > 1:
            raise InputError(f"{place} holds {len(groups)} series; choose one by its number: {listed}.")
        return groups[0]
    if not 1 <= series <= len(groups):
        raise InputError(f"There is no series {series} in {place}; there are: {listed}.")
    return groups[series - 1]


def _unique(group: Group) -> tuple[Group, list[str]]:
    """The instances without those that are there twice (copies of one file)."""
    once = {made.uid or made.item.name: made for made in reversed(group)}
    kept = [made for made in group if once[made.uid or made.item.name] is made]
    copies = len(group) - len(kept)
    return kept, [f"{copies} file{'s' if copies > 1 else ''} left out that are copies of others."] if copies else []


def _pixels(made: Stack, worker: Worker) -> np.ndarray:
    """S x R x C, or S x R x C x 3."""
    by_instance: dict[int, list[tuple[int, Placed]]] = {}
    for k, placed in enumerate(made.frames):
        by_instance.setdefault(id(placed[0]), []).append((k, placed))
    array: np.ndarray | None = None
    for wanted in track(list(by_instance.values()), "pixels"):
        owner = wanted[0][1][0]
        places = {frame.number: k for k, (_, frame) in wanted}
        for number, values in enumerate(frames_of(owner, worker)):
            if number not in places:
                continue
            if array is None:
                array = np.zeros((len(made.frames), *values.shape), values.dtype.newbyteorder("="))
            elif (common := np.result_type(array, values)) != array.dtype:
                array = array.astype(np.float32 if common.itemsize > 4 else common)
            array[places[number]] = values
    if array is None:
        raise InputError("The series has no frames.")
    return array


def read_series(
    items: Iterable[Item], place: str, series: int | None = None, volume: int | None = None, alone: bool = False
) -> Volume:
    """The volume that the DICOM files make.

    Args:
        items: files; those that are no DICOM or no pictures are passed over.
        place: the folder, archive or file, for messages.
        series: which, counted from 1 on, where there are several.
        volume: which of several images at every place, from 0 on.
        alone: there is one file, and it must be a picture.

    Raises:
        InputError: when there is no picture, several series and none chosen, more than 2^28 voxels, damaged pixels, or
            slices that do not make a stack.
    """
    group, copies = _unique(_chosen(_grouped(_instances(items, place, alone)), place, series))
    notes = [*copies, *sorted({note for made in group for note in made.notes})]
    total = sum(made.voxels for made in group)
    if total > MAX_VOXELS:
        raise InputError(
            f"{place} claims {total} voxels; the limit is {MAX_VOXELS >> 20} million (2^28), so take a part."
        )
    built = stack([(made, frame) for made in group for frame in made.frames], volume)
    with Worker() as worker:
        array = _pixels(built, worker)
    owners = list({id(made): made for made, _ in built.frames}.values())
    index = {id(made): i for i, made in enumerate(owners)}
    first = built.frames[0][0]
    return Volume(
        array,
        built.spacing,
        built.affine,
        first.modality,
        DicomSource(
            tuple(made.dataset for made in owners), tuple((index[id(made)], f.number) for made, f in built.frames)
        ),
        () if first.colour else built.frames[0][1].windows,
        first.inverted,
        built.positions,
        (*notes, *built.notes),
    )
