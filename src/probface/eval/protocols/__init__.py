"""How the field judges: one protocol a file, from embeddings to scores and labels."""
