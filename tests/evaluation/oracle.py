"""A deliberately simple evaluation: loops, Python's sort, and Market's rule written out. No speed at all."""

import numpy as np

DISTRACTOR_ZERO = {"market1501", "market1501-multi-query", "openreid"}


def is_dropped(protocol, q_id, q_camera, g_id, g_camera, same_picture=False):
    if g_id == -1:
        return True
    if protocol == "no-camera":
        return same_picture
    if protocol == "cuhk03-classic":
        return g_camera == q_camera
    return g_id == q_id and g_camera == q_camera


def is_match(protocol, q_id, g_id):
    return q_id == g_id and q_id != -1 and not (q_id == 0 and protocol in DISTRACTOR_ZERO)


def ranked(protocol, scores, q_id, q_camera, g_ids, g_cameras, same_picture=None):
    """[right or wrong, ...] in the order of ranks; a wrong one comes first among equals."""
    entries = []
    for j, score in enumerate(scores):
        same = bool(same_picture is not None and same_picture[j])
        if not is_dropped(protocol, q_id, q_camera, g_ids[j], g_cameras[j], same):
            entries.append((-float(score), is_match(protocol, q_id, g_ids[j])))
    return [right for _, right in sorted(entries)]


def average_precision(order):
    precisions = [sum(order[:rank]) / rank for rank in range(1, len(order) + 1) if order[rank - 1]]
    return sum(precisions) / len(precisions) if precisions else np.nan


def market_trapezoid(order):
    """compute_AP of the Market-1501 evaluation code, step by step down the list."""
    good = sum(order)
    if not good:
        return np.nan
    old_recall, old_precision, ap, found = 0.0, 1.0, 0.0, 0
    for seen, right in enumerate(order):
        found += right
        recall, precision = found / good, found / (seen + 1)
        ap += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
        if found == good:
            break
    return ap


def inverse_penalty(order):
    if not any(order):
        return np.nan
    last = max(rank for rank, right in enumerate(order, 1) if right)
    return sum(order) / last


def first_rank(order):
    return order.index(True) + 1 if any(order) else np.nan


def evaluate_orders(orders, length):
    """The figures of a list of rankings, one per query."""
    first = [first_rank(order) for order in orders]
    matched = [rank for rank in first if not np.isnan(rank)]
    return {
        "cmc": [sum(rank <= k for rank in matched) / len(matched) for k in range(1, length + 1)],
        "mAP": np.nanmean([average_precision(order) for order in orders]),
        "mAP_trapezoid": np.nanmean([market_trapezoid(order) for order in orders]),
        "mINP": np.nanmean([inverse_penalty(order) for order in orders]),
        "ap": [average_precision(order) for order in orders],
        "first": first,
        "without": len(first) - len(matched),
    }


def check(result, orders):
    """Everything that a result says about these rankings."""
    expected = evaluate_orders(orders, len(result.cmc))
    np.testing.assert_allclose(result.cmc, expected["cmc"], rtol=1e-12)
    np.testing.assert_allclose(result.average_precision, expected["ap"], rtol=1e-12)
    np.testing.assert_array_equal(result.first_rank, expected["first"])
    np.testing.assert_allclose(result.mAP, expected["mAP"], rtol=1e-12)
    np.testing.assert_allclose(result.mAP_trapezoid, expected["mAP_trapezoid"], rtol=1e-12)
    np.testing.assert_allclose(result.mINP, expected["mINP"], rtol=1e-12)
    assert result.queries_without_match == expected["without"]
    assert result.queries == len(orders)


def dense_k_reciprocal(vectors, queries, k1, k2, weight):
    """Zhong et al. 2017 with whole N×N arrays; (Q, G) distances."""
    vectors = np.asarray(vectors, np.float64)
    count = len(vectors)
    d = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    d = d / d.max(1, keepdims=True)
    order = np.argsort(d, 1, kind="stable")

    def reciprocal(i, k):
        return [j for j in order[i, : k + 1] if i in order[j, : k + 1]]

    v = np.zeros((count, count))
    for i in range(count):
        base = reciprocal(i, k1)
        grown = set(base)
        for j in base:
            other = reciprocal(j, int(np.around(k1 / 2)))
            if len(set(other) & set(base)) > 2 / 3 * len(other):
                grown |= set(other)
        for j in grown:
            v[i, j] = np.exp(-d[i, j])
        v[i] /= v[i].sum()
    if k2 > 1:
        v = np.stack([v[order[i, :k2]].mean(0) for i in range(count)])
    jaccard = np.zeros((queries, count - queries))
    for i in range(queries):
        for j in range(queries, count):
            least = np.minimum(v[i], v[j]).sum()
            jaccard[i, j - queries] = 1 - least / np.maximum(v[i], v[j]).sum()
    return (1 - weight) * jaccard + weight * d[:queries, queries:]
