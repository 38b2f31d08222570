import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation import average_query_expansion, evaluate, prepare, rerank
from kronreid.evaluation.rerank import KReciprocalScores, nearest, stable_top
from kronreid.evaluation.scores import VectorScores

from .oracle import check, dense_k_reciprocal, ranked


def clusters(queries, gallery, people, dimension=12, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, dimension))
    ids = rng.integers(0, people, queries + gallery)
    vectors = (centres[ids] + noise * rng.normal(size=(len(ids), dimension))).astype(np.float32)
    return vectors, ids


def k_reciprocal(vectors, queries, metric, **options):
    labels = np.ones(len(vectors), int)
    task = prepare("no-camera", labels[:queries], None, labels[queries:], None)
    scores = KReciprocalScores(VectorScores(vectors[:queries], vectors[queries:], task, metric), **options)
    out = torch.empty(queries, len(vectors) - queries)
    half = out.shape[1] // 2
    scores.fill(out[:, :half], slice(0, queries), slice(0, half))
    scores.fill(out[:, half:], slice(0, queries), slice(half, out.shape[1]))
    return -out.numpy()


@pytest.mark.parametrize(("k1", "k2", "weight"), [(20, 6, 0.3), (5, 3, 0.0), (7, 1, 0.5), (1, 1, 0.3)])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_equals_the_dense_implementation(k1, k2, weight, metric):
    vectors, _ = clusters(20, 70, 8)
    plain = vectors.astype(float)
    if metric == "cosine":
        plain = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    expected = dense_k_reciprocal(plain, 20, k1, k2, weight)
    found = k_reciprocal(vectors, 20, metric, k1=k1, k2=k2, weight=weight)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_chunks_change_nothing(monkeypatch):
    vectors, _ = clusters(20, 70, 8, seed=1)
    whole = k_reciprocal(vectors, 20, "cosine")
    monkeypatch.setattr(rerank, "CHUNK", 100)
    monkeypatch.setattr(rerank, "BLOCK_SCORES", 500)
    np.testing.assert_allclose(k_reciprocal(vectors, 20, "cosine"), whole, atol=1e-6)


def test_it_helps_and_is_ranked_like_any_other_distance():
    vectors, ids = clusters(30, 120, 12, noise=0.9, seed=2)
    cameras = np.random.default_rng(0).integers(0, 3, 150)
    given_ = (vectors[:30], ids[:30], cameras[:30], vectors[30:], ids[30:], cameras[30:])
    before, after = (evaluate(*given_, protocol="dukemtmc", k_reciprocal=k) for k in (False, True))
    assert after.mAP > before.mAP + 0.02
    distances = dense_k_reciprocal(unit64(vectors), 30, 20, 6, 0.3)
    orders = [
        ranked("dukemtmc", -distances[i], ids[i], cameras[i], ids[30:], cameras[30:]) for i in range(30)
    ]
    check(after, orders)


def unit64(vectors):
    vectors = vectors.astype(float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_identical_pictures_do_not_break_it():
    vectors = np.ones((40, 4), np.float32)
    assert np.isfinite(k_reciprocal(vectors, 10, "euclidean")).all()


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 4, 1000]), k=st.integers(1, 12))
def test_stable_top_is_a_stable_sort(seed, levels, k):
    rows = np.random.default_rng(seed).integers(0, levels, (4, 12)).astype(np.float32)
    expected = np.argsort(-rows, 1, kind="stable")[:, :k]
    assert stable_top(torch.from_numpy(rows), k).tolist() == expected.tolist()


def test_nearest_and_farthest():
    vectors, _ = clusters(5, 30, 4)
    labels = np.ones(35, int)
    task = prepare("no-camera", labels[:5], None, labels[5:], None)
    lists, farthest = nearest(VectorScores(vectors[:5], vectors[5:], task, "euclidean"), 6)
    d = ((vectors[:, None].astype(float) - vectors[None]) ** 2).sum(2)
    assert lists.tolist() == np.argsort(d, 1)[:, :6].tolist()
    np.testing.assert_allclose(farthest, d.max(1), rtol=1e-5)


def test_average_query_expansion_equals_loops():
    vectors, _ = clusters(6, 40, 5)
    expected = []
    for query in unit64(vectors[:6]):
        near = np.argsort(-unit64(vectors[6:]) @ query)[:4]
        mean = query + unit64(vectors[6:])[near].sum(0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(
        average_query_expansion(vectors[:6], vectors[6:], top=4).numpy(), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda v: k_reciprocal(v, 3, "cosine", k1=20), "k1"),
        (lambda v: k_reciprocal(v, 3, "cosine", k1=4, k2=6), "k2"),
        (lambda v: average_query_expansion(v[:3], v[3:], top=8), "top"),
        (lambda v: average_query_expansion(v[:3], v[3:] * np.nan), "gallery_vectors"),
        (
            lambda v: evaluate(v[:5], [1] * 5, [0] * 5, v[5:], [1] * 5, [1] * 5,
                               protocol="cuhk03-classic", k_reciprocal=True, ranks=(1,)),
            "k_reciprocal",
        ),
    ],
)  # fmt: skip
def test_bad_input_names_the_argument(call, argument):
    with pytest.raises(InputError, match=rf"^{argument}: "):
        call(clusters(3, 7, 2)[0])
