"""Draw mAP against pictures seen for several runs.

python benchmarks/learning_curves.py RUN … --png FILE
"""

import argparse
from pathlib import Path

from kronreid.explain import curves_figure
from kronreid.training.callbacks import HISTORY, read_history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders; a curve is named after its folder")
    parser.add_argument("--png", type=Path, required=True)
    options = parser.parse_args()
    curves = {}
    for run in options.runs:
        rows = [row for row in read_history(run / HISTORY) if "mAP" in row]
        curves[run.name] = [row["pictures"] for row in rows], [100 * row["mAP"] for row in rows]
    curves_figure(curves, "pictures seen", "mAP, %", "mAP while training").save(options.png)


if __name__ == "__main__":
    main()
