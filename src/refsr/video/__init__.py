"""Video enlarged with sharp stills of the same things as references.

frames ── stills that fit ── matched, or matches carried from the frame before ──> restored ──> frames, with the sound
"""
