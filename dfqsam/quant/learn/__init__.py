"""Quantized layers with their roundings, steps and biases as parameters: block reconstruction and distillation."""
