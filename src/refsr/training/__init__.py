"""Training: recipes, stages, checkpoints.

photos, pairs or shards ── data ──> hr, ref ── down ──> lr
lr, ref ── model ──> sr ── losses of the stage ──> optimiser ──> running average ──> weights that ship
                      └──> critic (last stage)       └── checkpoint: all that a broken run goes on from
"""
