"""Make `nn_from_scratch/digits.npz` from the digits that scikit-learn ships: `python tools/make_digits.py`.

The images are E. Alpaydin and C. Kaynak's "Optical Recognition of Handwritten Digits" (UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, CC BY 4.0), the 1,797 of its writer-independent test part. Nothing is changed but the file
format: whole numbers 0 to 16, one byte each. Running it again gives the same bytes (with the same zlib).
"""
from pathlib import Path

import numpy as np
from sklearn import datasets

FILE = Path(__file__).parents[1] / "nn_from_scratch" / "digits.npz"

if __name__ == "__main__":
    digits = datasets.load_digits()
    images, labels = digits.data.astype(np.uint8), digits.target.astype(np.uint8)
    if images.shape != (1797, 64) or images.max() != 16 or not np.array_equal(images, digits.data):
        raise SystemExit(f"not the digits this script knows: {images.shape}, values up to {images.max()}")
    np.savez_compressed(FILE, images=images, labels=labels)
    print(f"{FILE}: {len(images):,} digits, {FILE.stat().st_size:,} bytes")
