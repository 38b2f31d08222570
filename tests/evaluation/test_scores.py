import numpy as np
import pytest
import torch

from kronreid.errors import InputError
from kronreid.evaluation import prepare
from kronreid.evaluation.scores import FunctionScores, VectorScores, check_finite, unit

LABELS = ([1, 2, 1], [0, 0, 0], [1, -1, 2, 3, -1, 1], [1, 0, 1, 1, 0, 2])
KEPT = [0, 2, 3, 5]


def vectors(dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 8)).astype(dtype), rng.normal(size=(6, 8)).astype(dtype)


def filled(scores, task):
    out = torch.empty(task.queries, task.gallery)
    scores.fill(out, slice(0, task.queries), slice(0, task.gallery))
    return out.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_cosine_and_euclidean(dtype):
    task = prepare("market1501", *LABELS)
    q, g = vectors(dtype)
    q64, g64 = q.astype(float), g.astype(float)[KEPT]
    cosine = (q64 @ g64.T) / np.linalg.norm(q64, axis=1)[:, None] / np.linalg.norm(g64, axis=1)
    np.testing.assert_allclose(filled(VectorScores(q, g, task), task), cosine, atol=1e-6)
    squared = ((q64[:, None] - g64[None]) ** 2).sum(2)
    np.testing.assert_allclose(filled(VectorScores(q, g, task, "euclidean"), task), -squared, atol=1e-5)


def test_a_block_is_a_part_of_the_whole():
    task = prepare("openreid", *LABELS)
    scores = VectorScores(*vectors(), task)
    whole = filled(scores, task)
    out = torch.empty(2, 3)
    scores.fill(out, slice(1, 3), slice(2, 5))
    np.testing.assert_allclose(out.numpy(), whole[1:3, 2:5], atol=1e-6)


def test_stacked_rows_are_queries_then_gallery():
    task = prepare("market1501", *LABELS)
    q, g = vectors()
    rows = np.array([4, 0, 6, 2, 3])
    expected = unit(torch.from_numpy(np.concatenate([q, g[KEPT]])))[torch.from_numpy(rows)]
    torch.testing.assert_close(VectorScores(q, g, task).stacked(rows), expected)


def test_a_zero_vector_has_cosine_zero():
    task = prepare("market1501", *LABELS)
    q, g = vectors()
    q[0] = 0
    assert (filled(VectorScores(q, g, task), task)[0] == 0).all()


def test_lower_precision_is_near_and_leaves_the_setting_alone():
    task = prepare("market1501", *LABELS)
    before = torch.get_float32_matmul_precision()
    exact = filled(VectorScores(*vectors(), task), task)
    for precision in ("tf32", "bf16"):
        near = filled(VectorScores(*vectors(), task, precision=precision), task)
        np.testing.assert_allclose(near, exact, atol=2e-2)
    assert torch.get_float32_matmul_precision() == before


def test_a_function_is_asked_in_its_own_columns():
    task = prepare("market1501", *LABELS)
    matrix = np.arange(18.0).reshape(3, 6)
    np.testing.assert_array_equal(
        filled(FunctionScores(lambda a, b: matrix[a, b], task), task), matrix[:, KEPT]
    )
    far = FunctionScores(lambda a, b: torch.from_numpy(matrix[a, b]), task, distances=True)
    np.testing.assert_array_equal(filled(far, task), -matrix[:, KEPT])


def test_large_but_finite_vectors_are_taken():
    check_finite(torch.full((2, 8), 3e38), "query_vectors")
    with pytest.raises(InputError, match=r"^gallery_vectors: row 1 "):
        check_finite(torch.tensor([[1.0, 2.0], [float("inf"), -float("inf")]]), "gallery_vectors")


def with_nan(matrix):
    out = matrix.copy()
    out[1, 2] = np.nan
    return out


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda q, g, t: VectorScores(with_nan(q), g, t), "query_vectors: row 1 "),
        (lambda q, g, t: VectorScores(q, with_nan(g), t), "gallery_vectors: row 1 "),
        (lambda q, g, t: VectorScores(q, g[:, :5], t), "gallery_vectors: 5 dimensions"),
        (lambda q, g, t: VectorScores(q[0], g, t), "query_vectors: "),
        (lambda q, g, t: VectorScores(q, [["a"] * 8] * 6, t), "gallery_vectors: "),
        (lambda q, g, t: VectorScores(q, g, t, "manhattan"), "metric: "),
        (lambda q, g, t: VectorScores(q, g, t, precision="fp8"), "precision: "),
        (
            lambda q, g, t: filled(FunctionScores(lambda a, b: np.ones((3, 2)), t), t),
            "scores: a block has shape",
        ),
        (lambda q, g, t: filled(FunctionScores(lambda a, b: np.full((3, 6), np.nan), t), t), "scores: .*NaN"),
        (
            lambda q, g, t: filled(
                FunctionScores(lambda a, b: np.full((3, 6), np.inf), t, distances=True), t
            ),
            "distances: .*infinite",
        ),
    ],
)
def test_bad_input_names_the_argument(make, argument):
    with pytest.raises(InputError, match=rf"^{argument}"):
        make(*vectors(), prepare("market1501", *LABELS))


@pytest.mark.parametrize("protocol", ["openreid", "market1501-multi-query"])
def test_scores_cannot_be_pooled_or_averaged(protocol):
    with pytest.raises(InputError, match=r"^protocol: "):
        FunctionScores(lambda a, b: np.ones((3, 6)), prepare(protocol, *LABELS))
