"""Quantization: pure tensor maths (grid, ranges), quantized layers, and the passes that change an encoder."""
