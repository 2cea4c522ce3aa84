"""What the comparisons share: a runner that draws examples, counts them, and says at the end how many there were."""

import os
import zlib

import pytest

EXAMPLES = int(os.environ.get("NN_FROM_SCRATCH_EXAMPLES", 600))  # 10,000 in a long run
LONG = EXAMPLES > 1000


@pytest.fixture
def on_examples(request, record_property):
    "on_examples(check, share, **strategies): call `check` with what the strategies draw, for this share of all examples."
    from hypothesis import HealthCheck, Phase, given, seed, settings

    def run(check, share, **strategies):
        tried = 0

        @settings(max_examples=max(3, round(EXAMPLES * share)), deadline=None, database=None, suppress_health_check=list(HealthCheck),
                  phases=[Phase.generate, Phase.shrink])
        @given(**strategies)
        def examples(**drawn):
            nonlocal tried
            check(**drawn)
            tried += 1

        if not LONG: examples = seed(zlib.crc32(request.node.name.encode()))(examples)  # the gate draws the same every time
        try: examples()
        finally: record_property("examples", tried)
    return run


def pytest_terminal_summary(terminalreporter):
    families = {}
    for report in [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]:
        tried = sum(value for name, value in report.user_properties if name == "examples") if report.when == "call" else 0
        family = report.nodeid.partition("[")[0].rpartition("::")[2]
        if tried: families[family] = families.get(family, 0) + tried
    if not families: return
    terminalreporter.section("examples drawn")
    for family, tried in families.items(): terminalreporter.write_line(f"{tried:8,}  {family}")
    terminalreporter.write_line(f"{sum(families.values()):8,}  in all")
