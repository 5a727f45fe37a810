"""The component's pure geometry under Node.js, and what Python puts together for the browser."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app import component, display

NODE = shutil.which("node")
TESTS = Path(__file__).parent


FILES = sorted(path.name for path in TESTS.glob("*.test.mjs"))


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed; the arithmetic of the components is untested")
def test_the_arithmetic_of_the_components():
    done = subprocess.run([str(NODE), "--test", *FILES], cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[0]) >= 30


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed; the components' scripts are not parsed")
@pytest.mark.parametrize("one", component.ALL, ids=lambda one: one.name)
def test_the_parts_make_one_module_that_parses(one):
    done = subprocess.run(
        [str(NODE), "--check", "--input-type=module"],
        input=component.script(one),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def parts_that_are_imported(name: str, seen: tuple[str, ...] = ()) -> set[str]:
    text = (Path(component.__file__).parent / f"{name}.mjs").read_text()
    direct = set(re.findall(r'^import .* from "\./(\w+)\.mjs";$', text, re.MULTILINE))
    return direct.union(*(parts_that_are_imported(one) for one in direct))


@pytest.mark.parametrize("one", component.ALL, ids=lambda one: one.name)
def test_a_component_has_all_the_parts_it_imports_and_each_after_those_it_imports(one):
    for number, part in enumerate(one.parts):
        assert parts_that_are_imported(part) <= set(one.parts[:number])
    assert parts_that_are_imported(one.parts[-1]) == set(one.parts[:-1])


@pytest.mark.parametrize("one", component.ALL, ids=lambda one: one.name)
def test_the_component_fetches_nothing(one):
    text = component.script(one) + component.style(one) + one.html
    assert "export default function show" in text
    for word in ("https:", "fetch(", "XMLHttpRequest", "WebSocket", "@import", "url(", "import(", "import "):
        assert word not in text, word
    assert set(re.findall(r"http:[^\"']*", text)) <= {"http://www.w3.org/2000/svg"}  # a name, which nobody asks for


@given(
    st.integers(1, 9).flatmap(
        lambda width: st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=9)
    )
)
def test_run_lengths_say_the_mask(rows):
    mask = np.array(rows, bool)
    counts = display.runs(mask)
    assert sum(counts) == mask.size
    assert all(count > 0 for count in counts[1:])
    values = np.repeat(np.arange(len(counts)) % 2, counts)
    assert np.array_equal(values.reshape(mask.shape), mask)
