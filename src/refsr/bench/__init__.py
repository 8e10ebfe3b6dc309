"""The benchmark: protocols, metrics, runs, and what is made of their results.

folder or manifest ── open_dataset ──> samples ── Protocol.prepare ──> lr, references
                                                      │ upscale, with and without
truth ───────────────────────────────> metrics <──────┘ ──> Result (JSON) ──> compare, report
"""
