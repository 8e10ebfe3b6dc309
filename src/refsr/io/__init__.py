"""Files and processes, independent of super-resolution.

bytes ── photo (exif, deep_colour) ──> Photo        weights: state dicts with the config of their model
data ── files ──> atomic writes                     records: JSON with a schema, journals of resumable runs
folder ── listing ──> its photos                    items ── workers ──> results of several processes
"""
