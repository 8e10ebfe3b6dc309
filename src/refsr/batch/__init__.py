"""Many photos: a list of jobs, done by many processes, each exactly once.

folder, CSV or JSON lines ── jobs ──> what has no result yet ── workers or a cluster ──> OUT/..., failures with reasons
A result is renamed into its place when it is whole; that it is there is all that says that a job is done. So a run that
is killed at any moment goes on where it was, and nothing is done twice or lost.
"""
