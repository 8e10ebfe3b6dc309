"""Files and processes: what is read, written and shared out, without a word of super-resolution.

bytes ── photo (exif, deep_colour) ──> Photo        weights: networks on disk
results ── files ──> whole or not at all            journal: what a broken run goes on from
folder ── listing ──> its photographs               work ── workers ──> done by several processes
"""
