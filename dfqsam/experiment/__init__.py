"""Calibration sources against quantization settings, measured in full torch simulation; needs the extra quantize.

The paper's settings quantize depthwise convolutions and attention products too, for which no integer kernels exist, so
encoders are judged here as torch computes them, behind the full-precision decoder or one that was taught to read them.
"""

from dfqsam.experiment.picture import agreement_chart
from dfqsam.experiment.store import load_cells
from dfqsam.experiment.study import run
from dfqsam.experiment.table import markdown

__all__ = ["agreement_chart", "load_cells", "markdown", "run"]
