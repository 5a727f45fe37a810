"""What a SAM is: families, checkpoints, encoders with named quantization sites, geometry and prompts."""
