"""Calibration images made from the model alone, in [0, 1]; one file a method."""
