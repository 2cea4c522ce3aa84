"""What the tests share."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # figures are drawn, never shown
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background without it, and tests interrupt


@pytest.fixture(scope="session")
def data_folder() -> Path:
    "A folder with large data sets (mnist/ and so on), given by NN_FROM_SCRATCH_DATA; without it the test is skipped."
    folder = os.environ.get("NN_FROM_SCRATCH_DATA")
    if not folder: pytest.skip("NN_FROM_SCRATCH_DATA names no folder with data sets")
    return Path(folder)


@pytest.fixture(autouse=True)
def only_the_rows_of_the_package():
    "What a test adds to the table of derivatives is gone after it."
    from nn_from_scratch import rules

    before = dict(rules.table)
    yield
    rules.table.clear()
    rules.table.update(before)
