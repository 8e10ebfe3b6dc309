"""Which photos are worth comparing in detail? Each one in a single vector, the nearest vectors kept.

Source: Jegou et al., "Aggregating local descriptors into a compact image representation", CVPR 2010 (VLAD), with the
normalisation within words of Arandjelovic and Zisserman, "All about VLAD", CVPR 2013.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from refsr.extras import import_extra

Vectors = Float[np.ndarray, "_ d"]
_WORDS: Final = 64
_SAMPLE: Final = 50_000
_ROWS: Final = 512


def learn_words(descriptors: Sequence[Vectors]) -> Vectors:
    """The centres of up to 64 clusters of an album's descriptors, the same for the same album.

    Args:
        descriptors: Of some of its photos, at least one vector in all.
    """
    cv2: Any = import_extra("cv2", "finding pairs")
    vectors = np.concatenate(list(descriptors))
    rng = np.random.default_rng(0)
    if len(vectors) > _SAMPLE:
        vectors = vectors[rng.choice(len(vectors), _SAMPLE, replace=False)]
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1e-4)
    words = min(_WORDS, len(vectors))
    _, _, centres = cv2.kmeans(vectors, words, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres, dtype=np.float32)


def describe(descriptors: Vectors, words: Vectors) -> Float[np.ndarray, " words_d"]:
    """One unit vector for a photo: for each word, the direction in which its descriptors miss it."""
    nearest = (descriptors @ words.T - 0.5 * (words**2).sum(1)).argmax(1)
    sums = np.zeros_like(words)
    np.add.at(sums, nearest, descriptors - words[nearest])
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    flat = sums.ravel()
    return (flat / max(float(np.linalg.norm(flat)), 1e-12)).astype(np.float32)


def nearest_pairs(vectors: Vectors, neighbours: int) -> list[tuple[int, int]]:
    """Every photo with its nearest ones, each pair once, as (smaller, larger) index, in order.

    Args:
        vectors: Unit vectors, one a photo.
        neighbours: How many for each photo.
    """
    count = len(vectors)
    kept = min(neighbours, count - 1)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, count if kept > 0 else 0, _ROWS):
        likeness = vectors[start : start + _ROWS] @ vectors.T
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -np.inf
        best = np.argpartition(-likeness, kept - 1, axis=1)[:, :kept]
        pairs.update(_ordered((start + row, int(other)) for row, found in enumerate(best) for other in found))
    return sorted(pairs)


def _ordered(pairs: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    return ((min(pair), max(pair)) for pair in pairs)
