"""From matches to texture in the LR image's order.

Match ── smoothing, planes ──> positions that hang together ── swap: patch by patch, warp: pixel by pixel ──> swapped
`flow` is what finds such a field without a search.
"""
