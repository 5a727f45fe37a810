"""Objects of whole studies from boxes on single slices; one function a study, which batches map over many."""

from dfqsam.segment.prompt import Box, Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Segmenter
from dfqsam.segment.step import Stop
from dfqsam.segment.study import Found, Segmentation, segment_study

__all__ = ["Box", "Found", "Prompt", "Propagation", "Segmentation", "Segmenter", "Stop", "segment_study"]
