"""The references of a blurry photo: found in an album, turned and scaled as they fit.

folder ── index ──> one vector a photo, on disk ──┐
blurry photo ── describe ──> its vector ──────────┴── nearest ──> a shortlist ── choose, by pose ──> those that fit
reference ── pose ──> turned and scaled by itself         variants: turned and scaled as somebody says
"""
