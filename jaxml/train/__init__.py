"""Training: a state, a step, a fold over batches, hooks beside it, checkpoints behind it."""
