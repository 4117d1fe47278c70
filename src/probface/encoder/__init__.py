"""Aligned faces to Embeddings, on ONNX Runtime."""
