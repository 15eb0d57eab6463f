"""Answers of an imagined classifier, and what is true."""

import numpy as np
import numpy.typing as npt

from dinoclassify.results.evaluation.evaluate import evaluate
from dinoclassify.results.evaluation.figures import Evaluation
from dinoclassify.results.evaluation.labelled_prediction import LabelledPrediction, LabelledRows, scores_in, with_truth
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


def judge(scores: Matrix, truth: npt.NDArray[np.int64], top_k: int = 1, target: float | None = None) -> Evaluation:
    """The figures of best labels: scores are images x classes, the truth is a class for each image."""
    rows = predictions(scores, top_k)
    labelled = [
        with_truth(row, int(index), scores_in(row, scores.shape[1])) for row, index in zip(rows, truth, strict=True)
    ]
    return evaluate(LabelledRows(labelled, names(scores.shape[1])), target_precision=target)


def judge_many(
    scores: Matrix, truths: npt.NDArray[np.bool_], threshold: float = 0.5, target: float | None = None
) -> Evaluation:
    """The figures of answers: scores and truths are images x labels."""
    rows = predictions(scores, scores.shape[1])
    indices = [tuple(np.flatnonzero(row).tolist()) for row in truths]
    labelled = [LabelledPrediction(row, true) for row, true in zip(rows, indices, strict=True)]
    return evaluate(LabelledRows(labelled, names(scores.shape[1]), True, threshold), target_precision=target)


def tags(count: int, labels: int = 6, seed: int = 1) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """Scores, many of them equal, and truths, in which the last label never occurs."""
    generator = np.random.default_rng(seed)
    truths = generator.random((count, labels)) < 0.3
    truths[:, -1] = False
    return np.round((generator.random((count, labels)) + truths * 0.4) / 1.4, 2), truths
