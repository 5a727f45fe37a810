"""Training, measuring and hardening a compact SAM of the ViT kind, on which the paper's architecture is proven.

Run by name (``python -m dfqsam.sam.reference.train``, and ``measure`` and ``harden`` beside it); nothing else in dfqsam
imports it.
"""
