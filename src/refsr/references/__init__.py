"""References of a blurry photo: found in a folder, rotated and scaled to fit.

folder ── index ──> a vector for each photo, on disk ──┐
blurry photo ── index ─────> its vector ───────────────┴── nearest ──> shortlist ── choose, by pose ──> references
reference ── pose ──> estimated rotation and scale        variants: copies in given rotations and scales
"""
