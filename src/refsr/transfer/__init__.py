"""From matches to texture in the LR image's order.

Match ── smoothing ──> a field in which neighbours agree ── swap: patch by patch, warp: pixel by pixel ──> swapped
`flow` is what finds such a field without a search.
"""
