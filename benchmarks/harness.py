"""How contenders are started, asked in turn, and compared. Needs nothing but Python.

Machines drift: the same step may take 1.8 times as long a minute later. So what is compared is never two times taken minutes
apart, but two rounds taken right after one another, as a ratio; and what is quoted is the median of many such ratios,
with an interval that assumes nothing about how they are distributed. The contenders that are not asked are stopped
(SIGSTOP): the idle threads of a BLAS spin for a while, and would take the time of the one that works.
"""

import json
import math
import os
import random
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from statistics import median


class Unavailable(Exception):
    "A contender cannot take part; says why."


class Contender:
    "A process that is sent questions, a line of JSON each, and stands still unless it is its turn."

    def __init__(self, command, env=None, cwd=None):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, env=env, cwd=cwd, text=True, bufsize=1, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors)

    def answer(self):
        "The next reply, as a dict. Raises `Unavailable` when it says so or ends."
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            raise Unavailable("it ended: " + ("".join(self.errors.readlines()[-3:]).strip() or f"code {self.process.returncode}"))
        reply = json.loads(line)
        if "unavailable" in reply: raise Unavailable(reply["unavailable"])
        return reply

    def ask(self, **question):
        "The reply to a question; it runs only for as long as it takes to answer."
        with self.turn():
            print(json.dumps(question), file=self.process.stdin, flush=True)
            return self.answer()

    @contextmanager
    def turn(self):
        self.go()
        try: yield
        finally: self.pause()

    def pause(self):
        "Stop the process, and wait until it has stopped."
        if not hasattr(signal, "SIGSTOP") or self.process.poll() is not None: return
        self.process.send_signal(signal.SIGSTOP)
        if hasattr(os, "waitid"): os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go(self):
        if hasattr(signal, "SIGCONT") and self.process.poll() is None: self.process.send_signal(signal.SIGCONT)

    def close(self):
        if self.process.poll() is None: self.process.kill()  # which works on a stopped one, too
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


@contextmanager
def contenders(commands):
    """Start the processes of `commands`, name -> (command, env, folder); two dicts: those that are ready, each stopped, and why
    the others are not. They end with the block."""
    started, ready, missing = {}, {}, {}
    try:
        for name, (command, env, cwd) in commands.items(): started[name] = Contender(command, env, cwd)
        for name, contender in started.items():
            try:
                contender.answer()
                contender.pause()
                ready[name] = contender
            except Unavailable as why: missing[name] = str(why)
        yield ready, missing
    finally:
        for contender in started.values(): contender.close()


def calibrate(contender, seconds):
    "How many units a round of about so many seconds has."
    n = 1
    while True:
        took = contender.ask(do="round", n=n, warm=1 if n > 1 else 0)["seconds"]
        if took * n >= seconds / 4 or n >= 1_000_000: return max(1, round(seconds / took))
        n = min(n * 10, max(n + 1, math.ceil(seconds / took / 2)))


def measure(ready, rounds, seconds, until=math.inf, units=None, rng=None):
    """Ask each contender for one round in turn, in an order drawn anew each time, `rounds` times over or until the clock
    (`time.monotonic`) says `until`, but at least 5 times. A round has `units` units, or as many as fill about so many seconds,
    after a tenth as many, at least 1, that are not timed.

    Returns name -> [seconds for one unit, round by round]."""
    rng = rng or random.Random(0)
    counts = {name: units or calibrate(contender, seconds) for name, contender in ready.items()}
    times = {name: [] for name in ready}
    for done in range(rounds):
        if done >= 5 and time.monotonic() > until: break
        for name in rng.sample(list(ready), len(ready)):
            warm = 0 if units else max(1, counts[name] // 10)
            times[name].append(ready[name].ask(do="round", n=counts[name], warm=warm)["seconds"])
    return times


def interval(values, share=0.95):
    """(median, low, high): an interval for the median that holds it with a probability of at least `share`, whatever the
    distribution. It runs from the k-th smallest value to the k-th largest, the number below the median being binomial. From
    fewer than 6 values no such interval can be had: then it is the smallest and the largest."""
    values = sorted(values)
    n, k, below = len(values), 0, 0.0
    while k < (n - 1) // 2 and below + math.comb(n, k) / 2**n <= (1 - share) / 2:
        below += math.comb(n, k) / 2**n  # P(at most k values below the median)
        k += 1
    k = max(k, 1)
    return median(values), values[k - 1], values[n - k]


def ratio(times, one, other):
    "The interval of the paired ratios of two contenders, round by round: below 1, `one` is faster."
    m, low, high = interval([a / b for a, b in zip(times[one], times[other], strict=True)])
    return {"median": m, "low": low, "high": high}


def disagreement(checks):
    "The largest difference between what the contenders computed, relative to the numbers or, where they are small, to 1/1000."
    some = [check for check in checks.values() if check is not None]
    return max((abs(a - b) / max(abs(a), abs(b), 1e-3) for one in some for other in some
                for a, b in zip(one, other, strict=True)), default=0.0)


def verdict(found, target):
    "What is said of an interval and the number it should not be above: missed only when all of it is above."
    if found["median"] <= target: return "reached"
    return "missed" if found["low"] > target else "within the noise"
