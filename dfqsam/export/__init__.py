"""From torch to the deployed ONNX graphs: wrap, trace, pack, prove parity, and list the kernels that run."""
