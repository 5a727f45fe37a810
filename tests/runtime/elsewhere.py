"""What a bundle computes for its self-test's picture, in a process that may have another ONNX Runtime.

python tests/runtime/elsewhere.py BUNDLE OUTPUT.npz
"""

import sys

import numpy as np
import onnxruntime

from dfqsam.bundle import open_bundle
from dfqsam.runtime import Predictor, self_test
from dfqsam.runtime.selftest import SelfTest


def main(folder: str, output: str) -> None:
    predictor = Predictor(open_bundle(folder), threads=1)
    report = self_test(predictor)
    test = SelfTest.of(predictor.bundle)
    assert report is not None
    assert test is not None
    predictor.set_image(test.picture)
    facts = {"version": onnxruntime.__version__, "passed": report.passed, "error": report.error, "dice": report.dice}
    np.savez(output, embedding=predictor.embedding, **facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
