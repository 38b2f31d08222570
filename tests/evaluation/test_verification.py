import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.errors import InputError
from kronreid.evaluation import evaluate, evaluate_scores, verify_pairs

LISTS = st.lists(st.integers(0, 6), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(positive=LISTS, negative=LISTS, limit=st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_equals_all_pairs(positive, negative, limit):
    found = verify_pairs(positive, negative)
    wins = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert found.auc == pytest.approx(np.mean(wins))
    best = 0.0
    for threshold in range(8):
        fpr = np.mean([n >= threshold for n in negative])
        if fpr <= limit:
            best = max(best, np.mean([p >= threshold for p in positive]))
    assert found.tpr_at(limit) == pytest.approx(best)
    false, true = found.roc()
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    # The curve passes through (EER, 1 - EER).
    on_curve = [
        abs((x1 - x0) * (1 - found.eer - y0) - (y1 - y0) * (found.eer - x0)) < 1e-9
        and x0 - 1e-9 <= found.eer <= x1 + 1e-9
        for x0, y0, x1, y1 in zip(false[:-1], true[:-1], false[1:], true[1:])
    ]
    assert any(on_curve)


def test_by_hand():
    # One of four negatives beats one of two positives: at 0.5 half the positives, a quarter of the negatives.
    found = verify_pairs([0.9, 0.5], [0.6, 0.2, 0.1, 0.0])
    assert found.auc == pytest.approx(7 / 8)
    assert found.fpr.tolist() == [0, 0.25]
    assert found.tpr.tolist() == [0.5, 1.0]
    assert found.tpr_at(0.2) == 0.5
    assert found.eer == pytest.approx(0.25)


@pytest.mark.parametrize("protocol", ["market1501", "cuhk03-classic", "no-camera"])
def test_over_all_pairs_of_a_protocol(protocol):
    rng = np.random.default_rng(0)
    q_ids, q_cameras = rng.integers(1, 7, 14), rng.integers(0, 3, 14)
    g_ids, g_cameras = rng.integers(-1, 7, 60), rng.integers(0, 3, 60)
    matrix = rng.integers(0, 12, (14, 60)).astype(float)
    positive, negative = [], []
    for i in range(14):
        for j in range(60):
            same_camera = q_cameras[i] == g_cameras[j]
            same_person = q_ids[i] == g_ids[j]
            dropped = {
                "market1501": same_person and same_camera,
                "cuhk03-classic": same_camera,
                "no-camera": False,
            }[protocol]
            if g_ids[j] != -1 and not dropped:
                (positive if same_person else negative).append(matrix[i, j])
    expected = verify_pairs(positive, negative)
    result = evaluate_scores(matrix, q_ids, q_cameras, g_ids, g_cameras, protocol=protocol, verification=True)
    assert (result.verification.positives, result.verification.negatives) == (len(positive), len(negative))
    assert result.verification.auc == pytest.approx(expected.auc)
    assert result.verification.eer == pytest.approx(expected.eer)
    json = result.to_json()
    assert json["auc"] == pytest.approx(expected.auc)
    assert json["tpr_at_fpr_0.01"] == pytest.approx(expected.tpr_at(0.01))


def test_evaluate_leaves_it_out_unless_asked():
    vectors = np.eye(3, dtype=np.float32)
    result = evaluate(vectors[:1], [1], [0], vectors, [1, 2, 3], [1, 1, 1], ranks=(1,))
    assert result.verification is None
    assert "auc" not in result.to_json()


@pytest.mark.parametrize(
    ("positive", "negative", "argument"),
    [([], [1.0], "positive_scores"), ([1.0], [], "negative_scores"), ([1.0], [np.nan], "negative_scores")],
)
def test_bad_input(positive, negative, argument):
    with pytest.raises(InputError, match=rf"^{argument}: "):
        verify_pairs(positive, negative)
