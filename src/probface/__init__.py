"""ProbFace: face embeddings that know when they are unsure."""
