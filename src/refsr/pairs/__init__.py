"""Pairs of input and reference out of any folder of photos.

photos ── detect ──> local features ── shortlist ──> pairs worth a look ── verify ──> overlaps (matches, places)
overlaps ── selection ──> no near-duplicates, test and training apart ──> groups by level, crops ── build ──> files
"""
