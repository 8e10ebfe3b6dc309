"""Web page of `refsr serve`.

page (layout) ── visits (what is pressed) ── request (one job) ── turns (in the queue, step by step) ── line, estimate
uploads, limits, guard (what is refused) ── finished, kept_results (what is made) ── show, words (said) ── server
"""
