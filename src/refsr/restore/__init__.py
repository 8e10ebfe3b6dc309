"""A blurry photo and references in, a sharp photo and its map out.

photo, references ── upscale ──> sr, tile by tile (`tiles`), and `provenance`: which detail is real, and from where
"""
