"""Objects of whole studies from boxes or clicks on single slices; one function a study, which batches map over many."""

from dfqsam.segment.found import Found, Overlap, Segmentation
from dfqsam.segment.prompt import Box, Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Segmenter
from dfqsam.segment.step import Stop
from dfqsam.segment.study import segment_study

__all__ = ["Box", "Found", "Overlap", "Prompt", "Propagation", "Segmentation", "Segmenter", "Stop", "segment_study"]
