"""Loads the scripts under test, so that the tests here can import them by name.

Their folder does not stay on the path: some of its scripts are named like folders of the tests.
"""

import importlib
import sys
from pathlib import Path

FOLDER = str(Path(__file__).parents[2] / "benchmarks")

sys.path.insert(0, FOLDER)
ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "serve"}
try:
    for name in (
        "ablation_report",
        "ablation",
        "robustness",
        "alignment",
        "heads",
        "detection",
        "places",
        "siege",
        "table2",
        "track",
    ):
        importlib.import_module(name)
finally:
    sys.path.remove(FOLDER)
    sys.modules.pop("serve", None)
    sys.modules.update(ours)
