"""References found in a folder of photos.

folder ── index ──> one vector a photo, on disk ──┐
blurry photo ── describe ──> its vector ──────────┴── nearest ──> a shortlist ── matched ──> those that fit
"""
