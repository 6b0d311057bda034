"""Small parts that every other part stands on; depends on jax and numpy only."""
