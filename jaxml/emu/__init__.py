"""Semantic specialisation of multilingual sentence embeddings."""
