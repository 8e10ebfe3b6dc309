"""The shortlist of photos to compare: nearest neighbours of one vector per photo.

Source of the vectors: Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010
(VLAD), with the intra-normalisation of Arandjelovic and Zisserman, "All about VLAD", CVPR 2013.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from refsr.extras import import_extra

_WORDS: Final = 64
_MAXIMUM_SAMPLE: Final = 50_000  # descriptors that the visual words are learnt from
_ROWS: Final = 512  # photos whose similarities to all others are computed at once

Vectors = Float[np.ndarray, "_ d"]


def learn_words(descriptors: Sequence[Vectors]) -> Vectors:
    """Visual words: centres of up to 64 clusters of RootSIFT descriptors, by k-means with a fixed seed."""
    cv2: Any = import_extra("cv2", "finding pairs")
    vectors = np.concatenate(list(descriptors))
    rng = np.random.default_rng(0)
    if len(vectors) > _MAXIMUM_SAMPLE:
        vectors = vectors[rng.choice(len(vectors), _MAXIMUM_SAMPLE, replace=False)]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-4)
    words = min(_WORDS, len(vectors))
    _, _, centres = cv2.kmeans(vectors, words, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres, dtype=np.float32)


def vlad(descriptors: Vectors, words: Vectors) -> Float[np.ndarray, " words_d"]:
    """VLAD of a photo, a unit vector: per word, the normalised sum of the residuals of its descriptors."""
    nearest = (descriptors @ words.T - 0.5 * (words**2).sum(1)).argmax(1)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, descriptors - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    flat = sums.ravel()
    return (flat / max(float(np.linalg.norm(flat)), 1e-12)).astype(np.float32)


def nearest_pairs(vectors: Vectors, neighbours: int) -> list[tuple[int, int]]:
    """Pairs of each photo, a unit vector, and its nearest neighbours, each once, as (smaller, larger) index, sorted."""
    count = len(vectors)
    kept = min(neighbours, count - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, count if kept > 0 else 0, _ROWS):
        similarity = vectors[start : start + _ROWS] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -np.inf
        best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
        for first, nearest in enumerate(best.tolist(), start):
            pairs |= {(min(first, second), max(first, second)) for second in nearest}
    return sorted(pairs)
