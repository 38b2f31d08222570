"""Cameras differ: removing what all that one camera has seen have in common.

Light, colours and the height at which a camera hangs move the vectors of all its people in one direction. So
two people in one camera look more alike than they are, and one person in two cameras less. The mean of a
camera's people tells that direction. Before tracklets are compared, a part of it is taken out: with m_c the
mean of the n_c people of camera c, and m the mean of the people of all cameras,

    v' = v − w_c · (m_c − m), scaled to length one, and w_c = (n_c − 1) / (n_c − 1 + k)

So a camera that has seen one person stays as it is, and one that has seen k + 1 people moves half of the way.
Differences within a camera stay as they are but for the scaling, and so do the cosines that a limit was
measured on. Each person counts once for each camera, however many tracklets there are of that person: a
camera that mostly sees one person must not take that person for its own colour.
"""

from collections.abc import Sequence

import numpy as np

from kronreid.gallery.clusters import Presence, cluster

#: k above: so many people more than one, and the mean of a camera counts half.
HALF = 4.0


def centred(
    vectors: np.ndarray, cameras: Sequence[str], presence: Presence, people: np.ndarray, limit: float
) -> np.ndarray:
    """Tracklets' vectors without what differs from camera to camera; see the head of this file.

    Args:
        vectors: (N, D) float32, unit vectors.
        cameras: The camera of each tracklet; "" where it is unknown. Such tracklets stay as they are.
        presence: Where and when the tracklets were.
        people: (N,) int64: the person that a tracklet belongs to already, 0 for none. Tracklets of none count
            as one person if their camera's own cosines say so.
        limit: The least mean cosine of one person's tracklets.

    Returns:
        (N, D) float32, unit vectors.
    """
    names = sorted({camera for camera in cameras if camera})
    if len(names) < 2:
        return vectors
    of = np.array(cameras, object)
    means, counts = [], []
    for name in names:
        own = np.flatnonzero(of == name)
        of_people = _people_of(vectors, own, presence, people, limit)
        means.append(of_people.mean(axis=0))
        counts.append(len(of_people))
    overall = np.average(means, axis=0, weights=counts)
    moved = vectors.astype(np.float64)
    for name, mean, count in zip(names, means, counts):
        moved[of == name] -= (count - 1) / (count - 1 + HALF) * (mean - overall)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, moved / np.maximum(lengths, 1e-6), vectors).astype(np.float32)


def _people_of(
    vectors: np.ndarray, own: np.ndarray, presence: Presence, people: np.ndarray, limit: float
) -> np.ndarray:
    """(P, D) the unit vectors of the people of one camera."""
    new = own[people[own] == 0]
    label = people.astype(np.int64).copy()
    if len(new):
        nobody = np.zeros(len(new), np.int64)
        label[new] = -1 - cluster(vectors[new], presence.of(new), nobody, limit).label
    _, person = np.unique(label[own], return_inverse=True)
    sums = np.zeros((person.max() + 1, vectors.shape[1]))
    np.add.at(sums, person, vectors[own])
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
