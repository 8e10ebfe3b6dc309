"""Batch: many photos enlarged by many processes, each exactly once.

folder, CSV or JSON lines ── jobs ──> jobs without a result ── workers or a cluster ──> OUT/..., failures with reasons
A result is renamed into its place once it is complete, and its existence alone marks a job as done. A run killed at any
moment therefore resumes without losing or repeating a job.
"""
