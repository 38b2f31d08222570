import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.gallery import memory
from kronreid.gallery.memory import RowMemory, VectorMemory

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((200, 8)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 199), max_size=60), min_size=1, max_size=6), st.data())
def test_it_finds_what_the_table_holds_and_reads_each_vector_once(versions, data):
    """Whatever comes, goes, comes back and is moved to other rows; also while memory is made smaller."""
    block, memory.BLOCK = memory.BLOCK, data.draw(st.sampled_from([4, 7, 64]))
    try:
        kept_in_memory = VectorMemory(8)
        read: list[int] = []
        older = []
        for number, stamps in enumerate(versions):
            present = np.array(sorted(stamps), np.int64)
            rows = present * 3 + 1000 * number  # every version moves every row

            def fetch(wanted, number=number):
                for row in wanted:
                    stamp = (row - 1000 * number) // 3
                    read.append(int(stamp))
                    yield np.array([stamp]), VECTORS[[stamp]]

            kept = kept_in_memory.refresh(present, rows, fetch)
            older.append((kept, rows, present))
        for kept, rows, present in older:  # a search that began earlier still sees its own version
            query = VECTORS[data.draw(st.integers(0, 199))]
            expected = sorted(zip(-(VECTORS[present] @ query), rows))[:10]
            found, products = kept.best(query, 10)
            assert found.tolist() == [row for _, row in expected]
            np.testing.assert_allclose(products, [-score for score, _ in expected], rtol=1e-5, atol=1e-5)
            allowed = rows[::2]
            assert set(kept.best(query, 500, allowed)[0]) == set(allowed)
    finally:
        memory.BLOCK = block


def test_a_vector_is_read_again_only_if_it_is_new():
    stamps = np.arange(100)
    asked = []

    def fetch(wanted):
        asked.append(len(wanted))
        yield wanted, VECTORS[wanted]

    known = VectorMemory(8)
    known.refresh(stamps, stamps, fetch)
    known.refresh(np.arange(50, 110), np.arange(50, 110), fetch)
    kept = known.refresh(np.arange(50, 110), np.arange(50, 110), fetch)
    assert asked == [100, 10]
    assert set(kept.best(VECTORS[0], 500)[0]) == set(range(50, 110))
    assert len(known.refresh(stamps[:0], stamps[:0], fetch).best(VECTORS[0], 5)[0]) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 99), max_size=40), min_size=1, max_size=8), st.integers(1, 4))
def test_rows_are_read_once_and_come_in_the_order_they_are_asked_for(versions, pieces):
    most, memory._MOST_PIECES = memory._MOST_PIECES, pieces
    block, memory.BLOCK = memory.BLOCK, 4
    try:
        kept_in_memory = RowMemory()
        kept = None
        for rows in versions:
            present = np.array(sorted(rows), np.int64)
            held = set() if kept is None else set(kept.known.tolist())
            kept = kept_in_memory.refresh(present, lambda wanted, held=held: told(wanted, held))
            asked = present[::-1].repeat(2)
            assert kept.take(asked).column("path").to_pylist() == [f"/{row}.jpg" for row in asked]
            assert set(kept.known.tolist()) >= rows
    finally:
        memory._MOST_PIECES, memory.BLOCK = most, block


def told(wanted, held):
    """Rows as a table gives them; none of those that are held already."""
    assert not held.intersection(wanted.tolist())
    assert (np.diff(wanted) > 0).all()
    return pa.table({"path": pa.array([f"/{row}.jpg" for row in wanted], pa.string())})
