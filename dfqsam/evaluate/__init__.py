"""How good a bundle is on a site's own pictures: both models asked alike, metrics, a report, and a verdict on patients.

From the bottom up: ``samples`` and ``sources`` read data, ``prompts`` and ``measure`` ask, ``rows`` and ``metrics``
compare, ``summary`` and ``report`` show; ``statistics``, ``verdict``, ``accept`` and ``record`` decide. ``run`` puts
them together. The room loads without its extra (SciPy, matplotlib, and what reads studies) and never needs torch.
"""
