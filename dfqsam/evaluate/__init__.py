"""How good a bundle is: prompts from reference masks, metrics, and tables."""
