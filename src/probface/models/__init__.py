"""Where weights come from, and how an uncertainty head is grafted onto any ONNX face model."""
