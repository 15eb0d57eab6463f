"""The scores of a training -> what its user may want to do, said only where it is more than noise."""

from dinoclassify.training.baselines import CLASS_MEAN, COMMONEST, NEAREST
from dinoclassify.training.train import HEAD, Trained


def warnings_of(trained: Trained) -> list[str]:
    """Warnings if a method without training does as well as the head, or better."""
    head, nearest, mean = (trained.scores[method] for method in (HEAD, NEAREST, CLASS_MEAN))
    warnings = []
    if nearest.beats_head:
        warnings.append(
            f"the {NEAREST} beat the linear head ({nearest.accuracy:.1%} against {head.accuracy:.1%}): split a class "
            "of several looks into a folder for each, leave out near-duplicates, or try a larger --model "
            "(dinoclassify guide train)"
        )
    if mean.beats_head:
        warnings.append(
            f"the {CLASS_MEAN} beats the linear head ({mean.accuracy:.1%} against {head.accuracy:.1%}): label more "
            "images, or try a larger --model (dinoclassify guide train)"
        )
    if not trained.scores[COMMONEST].loses_to_head:
        warnings.append(
            f"these images do not show that the linear head is better than always naming the {COMMONEST} "
            f"({head.accuracy:.1%} against {trained.scores[COMMONEST].accuracy:.1%}): label more, of rare classes "
            "and of other groups first, or try a larger --model (dinoclassify guide train)"
        )
    return warnings


def would_more_help(trained: Trained) -> str:
    """Whether more images are likely to help, from heads that were trained on half of them."""
    everything, *parts = trained.curve
    half = next((part for part in parts if part.share == 0.5), None)
    if everything.score.accuracy == 1:
        return "all held-out images are right: more images like these cannot show a gain"
    if half is None:
        return "whether more images would help cannot be seen: some classes have too few for a half of them"
    shares = f"{half.score.accuracy:.1%} with half of the images, {everything.score.accuracy:.1%} with all"
    if half.score.loses_to_head:
        return f"more images are likely to help: {shares}"
    return f"it is not clear that more images would help: {shares}"
