"""Web page of `refsr serve`.

page (layout) ── visits (what is pressed) ── request (one job) ── turns (in the queue, step by step) ── line, speed
uploads, limits, guard (what is refused) ── finished, results (what is made) ── show, words (what is said) ── server
"""
