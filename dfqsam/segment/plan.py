"""What a batch is to do: a job for every study, with what would go wrong said before the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.imaging import sniff
from dfqsam.segment.job import Job, Settings
from dfqsam.segment.outputs import stem
from dfqsam.segment.prompt import Prompt

WORK = ".work"


def _series(path: Path, chosen: int | None, usual: int | None) -> int | None:
    """Which series a study is: as chosen for it, or the usual one where it is a folder or an archive."""
    if chosen is not None or usual is None:
        return chosen
    try:
        return usual if sniff(path) in ("folder", "zip") else None
    except InputError:  # said again when the study's turn comes
        return None


def planned(
    folder: Path,
    prompts: Mapping[str, Sequence[Prompt]],
    output: Path,
    settings: Settings,
    choices: Mapping[str, int],
    series: int | None,
) -> dict[str, Job]:
    """A job for every study, its target in the work folder.

    Raises:
        InputError: when two studies would be written under one name, or the output lies inside a study.
    """
    found: dict[str, Job] = {}
    names: dict[str, str] = {}
    for number, (study, asked) in enumerate(prompts.items()):
        path = folder / study
        name = stem(study).casefold()
        if name in names:
            raise InputError(f"The masks of {names[name]} and {study} would have one name; rename one of the studies.")
        names[name] = study
        if output.absolute().is_relative_to(path.absolute()):
            raise InputError(f"The output {output} lies inside of the study {study}; choose another folder.")
        which = _series(path, choices.get(study), series)
        found[study] = Job(path, tuple(asked), settings, output / WORK / str(number), which)
    return found
