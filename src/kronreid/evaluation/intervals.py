"""How sure a rate is: intervals from samples of people."""

import numpy as np

#: Samples of people of which an interval is taken.
SAMPLES = 1000
#: People to draw at a time.
DRAWN = 1 << 20


def interval(
    values: np.ndarray, people: np.ndarray, seed: int = 0, samples: int = SAMPLES
) -> tuple[float, float] | None:
    """The 95 % interval of a mean over queries, by a bootstrap over people.

    A person's queries resemble each other, so people are drawn with replacement, each with all queries.

    Args:
        values: (Q,) floats, one for each query. Queries with NaN are left out.
        people: (Q,) integers, who each query shows.
        seed: Decides which people are drawn.
        samples: How many times.

    Returns:
        The 2.5th and the 97.5th percentile of the mean; None with fewer than two people.
    """
    there = ~np.isnan(values)
    found, codes = np.unique(people[there], return_inverse=True)
    if len(found) < 2:
        return None
    sums, counts = np.bincount(codes, values[there]), np.bincount(codes)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    step = max(1, DRAWN // len(found))
    for start in range(0, samples, step):
        part = means[start : start + step]
        drawn = random.integers(len(found), size=(len(part), len(found)))
        part[:] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return low, high
