"""How fast is it? Training steps, epochs, predictions, texts that a GPT writes, growth, memory and import time, against other libraries.

    pip install -e ".[bench]"
    python benchmarks/run.py                    about 20 minutes on 2 cores: prints tables, writes benchmarks/results.json
    python benchmarks/run.py --quick            about 3 minutes, with wider intervals
    python benchmarks/run.py --sections step --networks tiny,large --peers "PyTorch, fused Adam" --threads 1

Every contender has the same network (libraries/, a short file each), the same first weights and the same batches (problem.py),
in float32; that they compute the same losses is checked first. harness.py says how they are timed. A library that is not
installed is left out, with the reason. On a busy machine the intervals are wide: close what else runs.

A ratio is this library's time over the other's: below 1, this library is faster. targets.json holds the numbers to reach.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from contender import environment
from harness import Unavailable, contenders, disagreement, interval, measure, ratio, verdict
from networks import NETWORKS as OF_LAYERS

HERE = Path(__file__).resolve().parent
OURS = "nn_from_scratch"
LIBRARIES = {  # name of a contender -> file in libraries/, options
    OURS: ("ours", {}),
    "compiled": ("ours", {"compile": "calls"}),
    "compiled, numba": ("ours", {"compile": "loops"}),
    "PyTorch, fused Adam": ("pytorch", {"fused": True}),
    "PyTorch, default Adam": ("pytorch", {}),
    "JAX, jit": ("jax_jit", {}),
    "scikit-learn": ("scikit_learn", {}),
    "HIPS autograd": ("hips_autograd", {}),
    "NumPy by hand": ("by_hand", {}),
    "matrix products": ("floor", {}),
}
EPOCHS = {
    OURS: ("ours", {"metrics": True}),
    "fit, no metrics": ("ours", {}),
    "bare steps": ("ours", {"bare": True}),
    "PyTorch, fused Adam": ("pytorch", {"fused": True}),
    "scikit-learn": ("scikit_learn", {}),
}
ONE_ROW = {
    OURS: ("ours", {}),
    "nn_from_scratch, predict": ("ours", {"through": "predict"}),
    "PyTorch": ("pytorch", {}),
    "JAX, jit": ("jax_jit", {}),
    "scikit-learn": ("scikit_learn", {}),
    "matrix products": ("floor", {}),
}
MANY_ROWS = ONE_ROW | {
    OURS: ("ours", {"through": "predict"}),
    "PyTorch, 1024 rows at a time": ("pytorch", {"rows": 1024}),
}
del MANY_ROWS["nn_from_scratch, predict"]
MEMORY = {name: LIBRARIES[name] for name in (OURS, "PyTorch, fused Adam", "JAX, jit", "scikit-learn", "HIPS autograd")}
LAYERS = {
    OURS: ("ours_layers", {}),
    "compiled": ("ours_layers", {"compile": True}),
    "PyTorch, fused Adam": ("pytorch_layers", {}),
    "JAX, jit": ("jax_layers", {}),
}
WRITERS = {
    OURS: ("ours_layers", {}),
    "PyTorch": ("pytorch_layers", {}),
    "PyTorch, bare functions": ("pytorch_layers", {"lean": True}),
}
NETWORKS = {  # name -> sizes, activation, rows in a batch
    "tiny": ([2, 16, 16, 2], "tanh", 32),
    "small": ([64, 128, 10], "relu", 32),
    "medium": ([784, 256, 128, 10], "relu", 128),
    "large": ([1024, 1024, 1024, 10], "relu", 256),
}
GROWTH = {  # series -> its points -> sizes, rows in a batch
    "width": {w: ([w, w, w, 10], 128) for w in (64, 128, 256, 512, 1024, 2048, 4096)},
    "depth": {d: ([64] * (d + 1), 128) for d in (1, 2, 4, 8, 16, 32, 64)},
    "batch": {b: (NETWORKS["medium"][0], b) for b in (1, 4, 16, 64, 256, 1024, 4096)},
}
HUNGRY = ("large", "CNN 16-32, batch 128", "GPT 2 x 64", "GPT 4 x 128")  # whose memory is looked at
GROWTH_PEERS = {name: LIBRARIES[name] for name in (OURS, "PyTorch, fused Adam", "matrix products")}
IMPORTS = {OURS: "nn_from_scratch", "NumPy": "numpy", "PyTorch": "torch", "JAX": "jax", "scikit-learn": "sklearn.neural_network",
           "HIPS autograd": "autograd.numpy"}
TOLERANCES = {  # the largest relative difference between contenders that is taken for rounding
    "step": 1e-3,  # of the losses of 10 steps, in float32
    "predict": 1e-4,  # of the probabilities of 3 rows
    "write": 0,  # of the tokens that are the likeliest
    "epoch": 0.05,  # of the mean loss of an epoch, for each shuffles in its own order
}


def command(library, threads, problem, options):
    "What starts a contender."
    spec = json.dumps(problem | {"options": options})
    return [sys.executable, str(HERE / "contender.py"), library, str(threads), spec], environment(threads), str(HERE)


def compare(libraries, problem, threads, options, units=None, rounds=None):
    "One comparison: start, check, measure."
    share = (options.end - time.monotonic()) / max(options.left, 1)  # of the time there is
    until = time.monotonic() + max(share, 5)
    options.left -= 1
    found = {"threads": threads, **problem}
    with contenders({name: command(file, threads, problem, opts) for name, (file, opts) in libraries.items()}) as (ready, missing):
        checks = {name: c.ask(do="check")["check"] for name, c in ready.items()}
        worst, tolerance = disagreement(checks), TOLERANCES[problem["kind"]]
        found["agreement"] = {"worst": worst, "tolerance": tolerance}
        if worst > tolerance:
            raise SystemExit(f"the contenders do not compute the same: they differ by {worst:.2g}, more than {tolerance:.2g}\n"
                             + "\n".join(f"{name}: {check}" for name, check in checks.items()))
        times = measure(ready, rounds or options.rounds, options.seconds, until, units)
        about = {name: c.ask(do="about") for name, c in ready.items()}
    for answer in about.values(): options.versions |= answer["versions"]
    if OURS in about: options.blas[str(threads)] = about[OURS]["blas"]
    found |= {"missing": missing, "memory": {name: a["memory"] for name, a in about.items()}}
    found["seconds"] = {name: dict(zip(("median", "low", "high"), interval(t), strict=True)) for name, t in times.items()}
    found["rounds"] = {name: [float(f"{s:.5g}") for s in t] for name, t in times.items()}
    pairs = [(OURS, name) for name in times if name != OURS and OURS in times]
    if "bare steps" in times: pairs.append(("fit, no metrics", "bare steps"))
    pairs += [(ours, other) for ours in ("compiled", "compiled, numba") for other in ("JAX, jit", "PyTorch, fused Adam")
              if {ours, other} <= times.keys()]
    found["ratios"] = [{"of": one, "to": other} | ratio(times, one, other) for one, other in pairs]
    return found


def steps(options):
    "One training step: forward, loss, backward, Adam."
    for name in options.networks:
        sizes, activation, batch = NETWORKS[name]
        for threads in options.threads:
            problem = {"kind": "step", "sizes": sizes, "activation": activation, "batch": batch}
            yield name, threads, lambda p=problem, t=threads: compare(wanted(LIBRARIES, options), p, t, options)


def layers(options):
    "One training step of networks with convolutions, norms, recurrent layers, attention."
    for name in options.layers:
        for threads in options.threads:
            problem = {"kind": "step", "network": name}
            yield name, threads, lambda p=problem, t=threads: compare(wanted(LAYERS, options), p, t, options)


def texts(options):
    "A text of as many tokens as a GPT can see, drawn one by one, with a cache."
    for name in ("GPT 2 x 64", "GPT 4 x 128"):
        for threads in options.threads:
            problem = {"kind": "write", "network": name}
            yield name, threads, lambda p=problem, t=threads: compare(wanted(WRITERS, options), p, t, options)


def epochs(options):
    "An epoch of data of MNIST's size (60,000 x 784) with batches of 128, shuffled."
    sizes, activation, batch = NETWORKS["medium"]
    for threads in options.threads:
        rows, rounds = (6_000, 7) if options.quick else (60_000, 11)
        problem = {"kind": "epoch", "sizes": sizes, "activation": activation, "batch": batch, "rows": rows}
        yield "medium", threads, lambda p=problem, t=threads, r=rounds: compare(
            wanted(EPOCHS, options), p, t, options, options.epochs, min(r, options.rounds))


def predictions(options):
    "The outputs of the medium network for one row, and for many."
    sizes, activation, batch = NETWORKS["medium"]
    for name, rows, libraries in (("1 row", 1, ONE_ROW), ("10,000 rows", 10_000, MANY_ROWS)):
        for threads in options.threads:
            problem = {"kind": "predict", "sizes": sizes, "activation": activation, "batch": batch, "rows": rows}
            yield name, threads, lambda p=problem, t=threads, lib=libraries: compare(wanted(lib, options), p, t, options)


def growth(options):
    "How the time of a step and its memory grow with width, depth and batch, on one thread."
    for series, points in GROWTH.items():
        yield series, 1, lambda s=series, p=points: grow(s, p, options)


def grow(series, points, options):
    "All points of a series are measured in turn, so that they can be compared with each other, too."
    until = time.monotonic() + max((options.end - time.monotonic()) / max(options.left, 1), 5)
    options.left -= 1
    points = dict(list(points.items())[::3]) if options.quick else points
    peers = wanted(GROWTH_PEERS, options)
    commands = {(name, point): command(file, 1, {"kind": "step", "sizes": sizes, "activation": "relu", "batch": batch}, opts)
                for point, (sizes, batch) in points.items() for name, (file, opts) in peers.items()}
    with contenders(commands) as (ready, missing):
        times = measure(ready, min(options.rounds, 9), options.seconds / 3, until)
        memory = {key: c.ask(do="about")["memory"] for key, c in ready.items()}
    names = [name for name in peers if any(n == name for n, _ in ready)]
    found = {"threads": 1, "series": series, "points": list(points), "sizes": {str(p): sizes for p, (sizes, _) in points.items()},
             "batches": {str(p): batch for p, (_, batch) in points.items()},
             "seconds": {name: [dict(zip(("median", "low", "high"), interval(times[name, p]), strict=True)) for p in points]
                         for name in names},
             "memory_mb": {name: [memory[name, p]["peak_mb"] for p in points] for name in names},
             "memory_above_imports_mb": {name: [memory[name, p]["peak_mb"] - memory[name, p]["before_mb"] for p in points]
                                         for name in names},
             "missing": {f"{name}, {p}": why for (name, p), why in missing.items()}}
    if series == "depth" and {(OURS, 64), (OURS, 8)} <= set(times):
        per_layer = {name: [t / layers for t in times[OURS, layers]] for name, layers in (("64", 64), ("8", 8))}
        found["ratios"] = [{"of": OURS, "to": "in proportion"} | ratio(per_layer, "64", "8")]
    return found


def memory(options):
    "The most memory a process has had after 20 steps, on one thread; with the library's imports, and above them."
    for name in HUNGRY:
        if name in OF_LAYERS: problem, libraries = {"kind": "step", "network": name}, LAYERS
        else:
            sizes, activation, batch = NETWORKS[name]
            problem, libraries = {"kind": "step", "sizes": sizes, "activation": activation, "batch": batch}, MEMORY
        yield name, 1, lambda p=problem, lib=libraries: peaks(p, wanted(lib, options), options)


def peaks(problem, libraries, options):
    options.left -= 1
    peak, above, missing = {}, {}, {}
    for _ in range(1 if options.quick else 3):
        for name, (file, opts) in libraries.items():
            with contenders({name: command(file, 1, problem, opts)}) as (ready, why):
                missing |= why
                if name not in ready: continue
                ready[name].ask(do="round", n=20, warm=0)
                used = ready[name].ask(do="about")["memory"]
            peak.setdefault(name, []).append(used["peak_mb"])
            above.setdefault(name, []).append(used["peak_mb"] - used["before_mb"])
    return {"threads": 1, **problem, "missing": missing, "steps": 20,
            "peak_mb": {name: median(values) for name, values in peak.items()},
            "above_imports_mb": {name: median(values) for name, values in above.items()},
            "ratios": [{"of": OURS, "to": name} | ratio(peak, OURS, name) for name in peak if name != OURS and OURS in peak],
            "ratios_above_imports": [{"of": OURS, "to": name} | ratio(above, OURS, name) for name in above
                                     if name != OURS and OURS in above]}


def imports(options):
    "How long a new Python takes to import a library and to end, its files being in the page cache."
    yield "import", 1, lambda: import_times(options)


def import_times(options):
    options.left -= 1
    times, missing = {}, {}
    for done in range(1 + (3 if options.quick else 9)):
        for name, module in IMPORTS.items():
            if name in missing: continue
            start = time.perf_counter()
            code = subprocess.run([sys.executable, "-c", f"import {module}"], env=environment(1), capture_output=True).returncode
            took = time.perf_counter() - start
            if code: missing[name] = "not installed"
            elif done: times.setdefault(name, []).append(took)
    return {"threads": 1, "missing": missing,
            "seconds": {name: dict(zip(("median", "low", "high"), interval(t), strict=True)) for name, t in times.items()},
            "ratios": [{"of": OURS, "to": name} | ratio(times, OURS, name) for name in times if name != OURS and OURS in times]}


SECTIONS = {"step": steps, "layers": layers, "write": texts, "epoch": epochs,
            "predict": predictions, "growth": growth, "memory": memory, "import": imports}


def wanted(libraries, options):
    "The contenders asked for; this library always."
    if not options.peers: return libraries
    ours = (OURS, "nn_from_scratch, predict", "fit, no metrics", "bare steps")
    return {name: library for name, library in libraries.items() if name in (*ours, *options.peers)}


def machine():
    "What the numbers were taken on."
    cpu = platform.processor() or platform.machine()
    with suppress(OSError):
        found = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = found[0] if found else cpu
    with suppress(OSError, ValueError, AttributeError):
        return {"cpu": cpu, "cores": cores(), "system": f"{platform.system()} {platform.machine()}",
                "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)}
    return {"cpu": cpu, "cores": cores(), "system": f"{platform.system()} {platform.machine()}"}


def cores():
    "The cores this process may use."
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def judge(results):
    "Each number to reach, with what was found and the verdict; only those that were measured."
    judged = []
    for target in json.loads((HERE / "targets.json").read_text(encoding="utf-8")):
        of = target.get("of", OURS)
        for found in results["sections"].get(target["section"], []):
            if (found["threads"] == 1) != (target["threads"] == "one"): continue
            name, key = target["name"], "ratios"
            if target["section"] == "growth": name = "depth"
            if target["section"] == "memory":
                name, key = name.removesuffix(", above the imports"), "ratios_above_imports" if "above" in name else "ratios"
            if found["name"] != name: continue
            for one in found.get(key, []):
                if (one["of"], one["to"]) == (of, target["to"]):
                    judged.append(target | {"threads": found["threads"], "of": of} | one | {"verdict": verdict(one, target["target"])})
    return judged


def time_of(seconds):
    for unit, scale in (("s", 1), ("ms", 1e-3)):
        if seconds >= scale: return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def found_as(ratio):
    return f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def show(section, found):
    "One measurement as a table."
    head = f"\n{section}, {found['name']}, {found['threads']} thread{'s' * (found['threads'] > 1)}"
    if "agreement" in found: head += f"  (they agree to {found['agreement']['worst']:.1g})"
    print(head)
    if section == "growth":
        print(f"{'':>24}" + "".join(f"{point:>11}" for point in found["points"]))
        for name, series in found["seconds"].items(): print(f"{name:>24}" + "".join(f"{time_of(s['median']):>11}" for s in series))
        for name, series in found["memory_above_imports_mb"].items():
            if name != "matrix products": print(f"{name:>24}" + "".join(f"{mb:>8.0f} MB" for mb in series))
        for one in found.get("ratios", []): print(f"{one['to']:>24}  {found_as(one)}")
    elif section == "memory":
        for name, mb in found["peak_mb"].items():
            print(f"{name:>28}  {mb:>7.0f} MB  {found['above_imports_mb'][name]:>7.0f} MB above its imports")
    else:
        ratios = {one["to"]: one for one in found["ratios"] if one["of"] == OURS}
        for name, s in found["seconds"].items():
            print(f"{name:>28}  {time_of(s['median']):>10}   " + (f"ratio {found_as(ratios[name])}" if name in ratios else ""))
    for name, why in found["missing"].items(): print(f"{name:>28}  left out: {why}")


def parse(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = lambda known, sep=",": lambda text: [known_word(word.strip(), known) for word in text.split(sep)]

    def known_word(word, known):
        if word not in known: raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(map(repr, known))}")
        return word

    peers = sorted({*LIBRARIES, *EPOCHS, *MANY_ROWS, *WRITERS} - {OURS})
    p.add_argument("--sections", type=words(SECTIONS), default=list(SECTIONS), help="of " + ",".join(SECTIONS))
    p.add_argument("--networks", type=words(NETWORKS), default=list(NETWORKS), help="for the training step, of " + ",".join(NETWORKS))
    p.add_argument("--layers", type=words(OF_LAYERS, ";"), default=list(OF_LAYERS),
                   help="networks of other layers, separated by semicolons: " + "; ".join(OF_LAYERS))
    p.add_argument("--peers", type=words(peers, ";"), default=[], help="only these, separated by semicolons: " + "; ".join(peers))
    p.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=sorted({1, cores()}),
                   help="numbers of threads, separated by commas (1 and all cores)")
    p.add_argument("--rounds", type=int, help="rounds of each contender (31; 7 when quick)")
    p.add_argument("--seconds", type=float, help="length of a round (0.12; 0.04 when quick)")
    p.add_argument("--minutes", type=float, help="time for all of it (19; 3 when quick): rounds are left out, but for 5, to keep to it")
    p.add_argument("--quick", action="store_true", help="few and short rounds, and a tenth of the data in the epoch")
    p.add_argument("--output", type=Path, default=HERE / "results.json", help="where the numbers go")
    options = p.parse_args(arguments)
    for name, full, quick in (("rounds", 31, 7), ("seconds", 0.12, 0.04), ("minutes", 19, 3)):
        if getattr(options, name) is None: setattr(options, name, quick if options.quick else full)
    options.epochs = 1 if options.quick else 2
    return options


def main(arguments=None):
    options = parse(arguments)
    begin = time.monotonic()
    options.end, options.versions, options.blas = begin + 60 * options.minutes, {}, {}
    plan = [(section, *item) for section in options.sections for item in SECTIONS[section](options)]
    options.left = len(plan)
    results = {"machine": machine(), "sections": {},
               "settings": {"rounds": options.rounds, "seconds": options.seconds, "quick": options.quick, "interval": 0.95}}
    print(f"{results['machine']['cpu']}, {results['machine']['cores']} cores")
    for section, name, _, run in plan:
        try: found = {"name": name} | run()
        except Unavailable as why:
            print(f"\n{section}, {name}: {why}")
            continue
        except KeyboardInterrupt:
            print("\ninterrupted: this is what was measured until now")
            break
        results["sections"].setdefault(section, []).append(found)
        show(section, found)
    results |= {"versions": options.versions, "blas": options.blas, "minutes": round((time.monotonic() - begin) / 60, 1)}
    results["targets"] = judge(results)
    print("\nThe numbers to reach (time over time; below 1 is faster)")
    for t in results["targets"]:
        what = f"{t['section']}, {t['name']}" + (f", {t['of']}" if t["of"] != OURS else "")
        print(f"{what:>46}, {t['threads']} thr., to {t['to']:<20} {t['target']:.2f}   {found_as(t)}  {t['verdict']}")
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    blas = "; ".join(f"{n} thread{'s' * (n != '1')}: " + ", ".join(str(v) for v in b.values() if v) for n, b in options.blas.items())
    print(f"\nBLAS: {blas}\n" + ", ".join(f"{name} {v}" for name, v in options.versions.items()))
    print(f"{results['minutes']} minutes; written to {options.output}")


if __name__ == "__main__":
    main()
