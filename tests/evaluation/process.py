"""One process of several; run by test_processes.py: rank, number of processes, meeting place, output."""

import sys

import numpy as np
import torch.distributed as dist
from fakes import results_of_every_kind

from kronreid.evaluation.processes import gather_rows, sum_over_processes

if __name__ == "__main__":
    rank, world, store, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    rows = gather_rows(np.full((rank + 1, 2), rank))
    np.savez(out, rows=rows, total=sum_over_processes(np.arange(3) + rank), **results_of_every_kind())
    dist.destroy_process_group()
