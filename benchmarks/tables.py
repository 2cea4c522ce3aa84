"""The estimators as they stand beside scikit-learn's networks as they stand, on real tables.

    pip install statsmodels vega_datasets pandas && python benchmarks/tables.py

Each table is split three times, three quarters to learn from. Both sides get the same columns: numbers with the median in their holes,
standardised; words as zeros and ones. Of a table with more than 800 rows, 800 drawn at random. Writes `benchmarks/tables.json`.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from sklearn import datasets
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from vega_datasets import data as vega

from nn_from_scratch.estimators import NeuralNetworkClassifier, NeuralNetworkRegressor

SPLITS, ROWS, FIRST = 3, 800, 0  # FIRST: the seed of the first split


def of_sklearn(name):
    found = getattr(datasets, f"load_{name}")(as_frame=True)
    return found.data, found.target


def of_statsmodels(name, target, leave=()):
    table = getattr(sm.datasets, name).load_pandas().data
    y = table[target] if isinstance(target, str) else target(table)
    gone = [*leave] + ([target] if isinstance(target, str) else [])
    return table.drop(columns=gone), y


def of_vega(name, target, leave=()):
    table = getattr(vega, name)()
    table = table[table[target].notna()]
    for column in table.columns:
        if table[column].dtype.kind == "M":
            table[column] = table[column].dt.dayofyear + 366 * table[column].dt.year
    return table.drop(columns=[target, *leave]), table[target]


CLASSES = {
    "iris": lambda: of_sklearn("iris"),
    "wine": lambda: of_sklearn("wine"),
    "breast_cancer": lambda: of_sklearn("breast_cancer"),
    "digits": lambda: of_sklearn("digits"),
    "anes96 vote": lambda: of_statsmodels("anes96", "vote"),
    "anes96 party": lambda: of_statsmodels("anes96", "PID", ["vote"]),
    "fair affair": lambda: of_statsmodels("fair", lambda t: t.affairs > 0, ["affairs"]),
    "modechoice": lambda: of_statsmodels("modechoice", "choice", ["individual"]),
    "randhie visit": lambda: of_statsmodels("randhie", lambda t: t.mdvis > 0, ["mdvis"]),
    "weather": lambda: of_vega("seattle_weather", "weather"),
    "cars origin": lambda: of_vega("cars", "Origin", ["Name"]),
    "airports": lambda: of_airports(),
}
NUMBERS = {
    "diabetes": lambda: of_sklearn("diabetes"),
    "cars mpg": lambda: of_vega("cars", "Miles_per_Gallon", ["Name"]),
    "ccard": lambda: of_statsmodels("ccard", "AVGEXP"),
    "star98": lambda: of_statsmodels("star98", lambda t: t.NABOVE / (t.NABOVE + t.NBELOW), ["NABOVE", "NBELOW"]),
    "engel": lambda: of_statsmodels("engel", "foodexp"),
    "statecrime": lambda: of_statsmodels("statecrime", "violent"),
    "macrodata": lambda: of_statsmodels("macrodata", "unemp"),
    "barley": lambda: of_vega("barley", "yield"),
    "temperature": lambda: of_vega("seattle_weather", "temp_max"),
    "anes96 income": lambda: of_statsmodels("anes96", "income"),
    "fair affairs": lambda: of_statsmodels("fair", "affairs"),
    "electricity": lambda: of_vega("iowa_electricity", "net_generation"),
}


def of_airports():
    table = vega.airports()
    table = table[table.state.isin(["AK", "TX", "CA", "FL", "NY", "WA"])]
    return table[["latitude", "longitude"]], table.state


def columns():
    "Numbers filled and standardised, words as zeros and ones."
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")))


def score(kind, x, y, x_test, y_test, make, seed):
    "What a network reaches on rows it has not seen."
    start = time.perf_counter()
    model = make_pipeline(columns(), make(random_state=seed)).fit(x, y)
    answer = model.predict(x_test)
    seconds = time.perf_counter() - start
    if kind == "numbers":
        return {"r2": r2_score(y_test, answer), "seconds": seconds}
    sure = np.clip(np.asarray(model.predict_proba(x_test), float), 1e-15, 1)
    return {"accuracy": accuracy_score(y_test, answer), "balanced": balanced_accuracy_score(y_test, answer),
            "log_loss": log_loss(y_test, sure / sure.sum(axis=1, keepdims=True), labels=model.classes_), "seconds": seconds}


def measure(rivals, tables=None):
    "rivals: name -> (classifier, regressor); results: kind -> table -> rival -> means over the splits."
    results = {"classes": {}, "numbers": {}}
    for kind, known in (("classes", CLASSES), ("numbers", NUMBERS)):
        for name, load in known.items():
            if tables and name not in tables:
                continue
            x, y = load()
            y = y.to_numpy().astype(str if kind == "classes" else float)
            x.columns = x.columns.astype(str)
            if len(x) > ROWS:
                some = np.random.default_rng(0).permutation(len(x))[:ROWS]
                x, y = x.iloc[some], y[some]
            found = {rival: [] for rival in rivals}
            for seed in range(FIRST, FIRST + SPLITS):
                parts = train_test_split(x, y, random_state=seed, stratify=y if kind == "classes" else None)
                x_train, x_test, y_train, y_test = parts
                for rival, makes in rivals.items():
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        found[rival].append(score(kind, x_train, y_train, x_test, y_test, makes[kind == "numbers"], seed))
            means = {rival: {key: float(np.mean([one[key] for one in many])) for key in many[0]} for rival, many in found.items()}
            results[kind][name] = {"rows": len(x), "columns": x.shape[1], **means}
            print(name, {rival: {k: round(v, 3) for k, v in m.items()} for rival, m in means.items()}, flush=True)
    return results


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--out", type=Path, default=Path(__file__).with_name("tables.json"))
    arguments = arguments.parse_args()
    results = measure({"here": (NeuralNetworkClassifier, NeuralNetworkRegressor), "scikit-learn": (MLPClassifier, MLPRegressor)})
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
