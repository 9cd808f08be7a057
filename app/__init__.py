"""What the command does: walks, trainings, trials, and the files that they leave."""

import os

# NumPy's own threads take cores from torch's, and as many as there are decide how sums round.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
