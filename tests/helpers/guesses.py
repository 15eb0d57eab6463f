"""Answers of an imagined classifier, and what is true."""

import numpy as np
import numpy.typing as npt

from dinoclassify.types.prediction import Label, Prediction

Matrix = npt.NDArray[np.float64]


SAMPLES = {  # the five sample images, as they are labelled here by hand
    "camera.jpg": "n04485082",
    "chelsea.jpg": "n02124075",
    "coffee.jpg": "n07920052",
    "motorcycle_left.jpg": "n03785016",
    "rocket.jpg": "n03773504",
}


def predictions(scores: Matrix, top_k: int) -> list[Prediction]:
    """What a classifier with such scores (images x classes) answers."""
    rows = []
    for number, row in enumerate(scores):
        best = np.argsort(-row, kind="stable")[:top_k].tolist()
        rows.append(Prediction(f"{number}.jpg", "ok", tuple(Label(f"c{n}", n, float(row[n])) for n in best)))
    return rows


def guesses(count: int, classes: int = 8, seed: int = 0) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """Scores that are often right, and the truth, in which the last class never occurs."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes - 1, count)
    logits = generator.normal(size=(count, classes)) * 1.5
    logits[np.arange(count), truth] += 1.5
    scores = np.exp(logits)
    return scores / scores.sum(axis=1, keepdims=True), truth


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]
