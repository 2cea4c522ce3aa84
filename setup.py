"""Installs the package. Everything that may change stands in settings.ini."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).resolve().parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

extras = {key.removesuffix("_requirements"): cfg[key].split() for key in cfg if key.endswith("_requirements")}
statuses = {"3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}
oldest = int(cfg["min_python"].partition(".")[2])
entry_points = {"console_scripts": cfg["console_scripts"].split()}
if cfg["git_url"] and cfg["doc_host"]:  # nbdev then links names in the text, and their sources
    entry_points["nbdev"] = [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"] or None,
    url=cfg["git_url"] or None,
    license="Apache-2.0",
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["nn_from_scratch", "nn_from_scratch.*"]),
    package_data={"nn_from_scratch": ["py.typed", "*.npz", "*.csv.gz", "*.txt"]},
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points=entry_points,
    zip_safe=False,
    classifiers=[
        f"Development Status :: {statuses[cfg['status']]}",
        f"Intended Audience :: {cfg['audience']}",
        f"Natural Language :: {cfg['language']}",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(oldest, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
