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
    "What a test changes in the tables is gone after it."
    from nn_from_scratch import functions, rules

    tables = functions.asked, functions.quicker, rules.table
    before = [dict(table) for table in tables]
    yield
    for table, then in zip(tables, before, strict=True):
        table.clear()
        table.update(then)


@pytest.fixture(params=["as the chapters write it", "with the quicker forms"])
def pace(request):
    "The test runs twice: as the chapters write it, and with the quicker forms."
    from nn_from_scratch import fast

    (fast.enable if request.param == "with the quicker forms" else fast.disable)()
    return request.param
