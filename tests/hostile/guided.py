"""Mutations that look for new lines of our readers (libFuzzer through atheris): by hand, a kind of file at a time.

    pip install 'dfqsam[fuzz]' -c constraints.txt
    python -m tests.hostile.guided manifest -max_total_time=600

Kinds are those of ``tests/hostile/kinds.py``; what comes behind is libFuzzer's. It ends with the first input that
raises anything but our own errors, and puts that into a file.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dfqsam"]):
    from dfqsam.errors import DfqsamError
    from tests.hostile.kinds import World


def main(words: list[str]) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("world", "work", "seeds"):
            (folder / name).mkdir()
        kinds = World(folder / "world").kinds()
        if len(words) < 2 or words[1] not in kinds:
            sys.exit(f"Give one of: {', '.join(kinds)}.")
        sound, survive = kinds[words[1]]
        (folder / "seeds" / "sound").write_bytes(sound)

        def once(data: bytes) -> None:
            try:
                survive(folder / "work", data)
            except DfqsamError as error:
                if "\n" in str(error):
                    raise

        atheris.Setup([words[0], str(folder / "seeds"), "-timeout=2", "-rss_limit_mb=2048", *words[2:]], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
