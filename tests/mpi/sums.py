"Sums of the ranks' vectors, held to NumPy's sum in the same order."

import numpy as np
from mpi4py import MPI

from nn_from_scratch.ranks import add_in_order

comm = MPI.COMM_WORLD
for dtype in ("float16", "float32", "float64"):
    for n in (0, 1, 2, 3, 7, 1000, 100_003):
        rows = [np.random.default_rng(i).normal(0, 10.0 ** i, n).astype(dtype) for i in range(comm.size)]
        expected = rows[0].copy()
        for row in rows[1:]: expected += row
        mine = rows[comm.rank].copy()
        add_in_order(comm, mine)
        assert mine.tobytes() == expected.tobytes(), (dtype, n)
print("equal", flush=True)
