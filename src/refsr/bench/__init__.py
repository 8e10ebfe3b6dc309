"""Benchmark: data sets, protocols, metrics, runs, comparison and report of their results.

folder or manifest ── open_dataset ──> samples ── Protocol.prepare ──> lr, references
                                                      │ upscale, with and without references
truth ───────────────────────────────> metrics <──────┘ ──> Result (JSON) ──> compare, report
"""
