"""Pictures to train on.

files, shards, packs ── sources ──> photographs and views, by number
number ── plan ──> what the pair shall be ── render ──> hr, lr, refs, truth_cells, on the device
                                              │
              sample: pixels; scene: planes and relief; light: another light; refsr.degrade: the LR image
"""
