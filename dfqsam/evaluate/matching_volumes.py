"""Volumes and masks that belong together by their names: NIfTI files, and files, folders or archives of DICOM."""

from __future__ import annotations

from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.evaluate.matching import Match, add, candidates, files, paired, stem
from dfqsam.imaging import sniff

NIFTI = (".nii", ".nii.gz")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Cut from names; others are a part of them, as DICOM files are often named by numbers with points.
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
KNOWN = (".dcm", ".dicom", ".ima", ".zip", *ITK)


def is_volume(path: Path) -> bool:
    """Whether a file is NIfTI by its name, or DICOM, NRRD, MetaImage or an archive by what it begins with."""
    if path.name.startswith(".") or path.name == "DICOMDIR" or not path.is_file():
        return False
    if path.name.lower().endswith(NIFTI):
        return True
    if path.name.lower().endswith(PICTURES) or not path.stat().st_size:
        return False
    return sniff(path) in ("dicom", "zip", "itk")


def _volumes(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if is_volume(path)]


def _name(path: Path, below: Path) -> str:
    if path.name.lower().endswith((*NIFTI, *PICTURES, *KNOWN)):
        return stem(path, below)
    return path.relative_to(below).as_posix()


def _folders(path: Path, below: Path) -> list[str]:
    """Names of the folders that a file lies in, the nearest first, without ``below`` itself."""
    parents = path.relative_to(below).parents
    return [parent.as_posix() for parent in list(parents)[:-1]]


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI)


def _masks(folder: Path, known: set[str], dicom: set[str]) -> list[tuple[str, Path]]:
    """Name and path of every mask.

    Args:
        folder: of the masks.
        known: names that an image may have.
        dicom: those of them that are DICOM, of which one slice may have a picture as its mask.
    """

    def fits(name: str, names: set[str]) -> bool:
        return any(image in names for image, _ in candidates(name))

    found = []
    for path in _volumes(folder):
        name, above = _name(path, folder), _folders(path, folder)
        lone = not _is_nifti(path) and bool(above) and len(files(path.parent, ("",))) == 1
        # A DICOM SEG is often exported as a folder with one file of a meaningless name.
        found.append((above[0] if lone and not fits(name, known) and fits(above[0], known) else name, path))
    pictures = [(stem(path, folder), path) for path in files(folder, PICTURES)]
    return found + [(name, path) for name, path in pictures if fits(name, dicom)]


def matched_volumes(folder: Path) -> list[Match]:
    """Name, image, label and mask of every mask below ``folder/masks``, with the volumes below ``folder/images``.

    ``images/A.nii.gz`` goes with ``masks/A.nii.gz`` and ``masks/A__LABEL.nii.gz``; names of nnU-Net (``A_0000.nii.gz``
    with ``A.nii.gz``) match too. A DICOM series is a folder ``images/A`` or an archive ``images/A.zip``, and goes with
    ``masks/A.dcm``, ``masks/A/anything.dcm`` or a NIfTI file; where a mask has the name of one file of a folder, that
    file is the image.

    Raises:
        InputError: when there is none, an image has no mask, a mask no image, or two images have one name.
    """
    below = folder / "images"
    levels: list[tuple[Path, list[tuple[str, Path]]]] = []
    for path in _volumes(below):
        own = [(_name(path, below), path)]
        single = _is_nifti(path) or path.name.lower().endswith((".zip", *ITK))
        levels.append((path, own if single else own + [(name, below / name) for name in _folders(path, below)]))
    known = {name for _, names in levels for name, _ in names}
    dicom = {name for path, names in levels for name, _ in names if not path.name.lower().endswith((*NIFTI, *ITK))}
    masks = _masks(folder / "masks", known, dicom)
    wanted = {image for name, _ in masks for image, _ in candidates(name)}
    images: dict[str, Path] = {}
    for _, names in levels:
        # A file that no mask names is a slice of the series that its folder holds.
        chosen = next((one for one in names if one[0] in wanted), names[min(1, len(names) - 1)])
        add(images, *chosen)
    found = paired(folder, images, masks)
    if not found:
        raise InputError(f"{folder} has no NIfTI or DICOM files in its folders images and masks.")
    return found
