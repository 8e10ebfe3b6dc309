"""Training: recipes, stages, checkpoints.

loop: train ── run: the state of a run ── stage: its batches, one after the other ── step: the losses of a batch
"""
