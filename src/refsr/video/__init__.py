"""A video and sharp stills of the same things: each frame enlarged with the stills that fit it.

frames ── the stills that fit ── matched, or carried from the frame before ──> restored ──> frames, with the sound
"""
