"""Training and test pairs from any folder of photos.

photos ── detect ──> local features ── shortlist ──> pairs to compare ── verify ──> overlaps (matches, crops)
overlaps ── selection ──> without near-duplicates, test and training apart ──> groups, crops ── build ──> files
"""
