"""A short siege: what the server answers while it is attacked. Times decide nothing here."""

from pathlib import Path

import siege


def test_a_short_siege_breaks_nothing(tmp_path: Path) -> None:
    figures, failures = siege.run(tmp_path, seconds=2, gallery=8)
    assert [failure for failure in failures if "to stop" not in failure] == []
    assert figures["siege_attacks"] > 10
    assert figures["siege_changes"] >= 1
    assert figures["siege_memory_ratio"] < siege.LARGER
