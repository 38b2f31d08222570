"""The two papers' arithmetic, each as a plain reference and as a fast form that equals it."""

from kronreid.ops.blocks import PreparedMaps, match_block, match_lists, prepare, score_block, score_lists
from kronreid.ops.comparisons import (
    by_lists,
    score_confidences,
    score_means,
    score_places,
    score_warped,
)
from kronreid.ops.matching import (
    MatchResult,
    correspondence,
    match_collapsed,
    match_pairs,
    match_reference,
    match_squares,
)
from kronreid.ops.sketch import (
    CountSketch,
    fold_convolution,
    high_order_pooling,
    high_order_product,
    inverse_matrix,
    pool_spectra,
    spectral_matrix,
    spectral_product,
)

__all__ = [
    "CountSketch",
    "MatchResult",
    "PreparedMaps",
    "by_lists",
    "correspondence",
    "fold_convolution",
    "high_order_pooling",
    "high_order_product",
    "inverse_matrix",
    "match_block",
    "match_collapsed",
    "match_lists",
    "match_pairs",
    "match_reference",
    "match_squares",
    "pool_spectra",
    "prepare",
    "score_block",
    "score_confidences",
    "score_lists",
    "score_means",
    "score_places",
    "score_warped",
    "spectral_matrix",
    "spectral_product",
]
