"""Figures of several panels; each result object draws its own panel with `plot(ax)`."""

from rmtdeq.output.figures.designs import design_figure, draw_activations, draw_spectra
from rmtdeq.output.figures.diagnoses import diagnosis_figure
from rmtdeq.output.figures.learning import learning_figure, ridge_figure, suggestion_figure
from rmtdeq.output.figures.spectra import (
    comparison_figure,
    draw_alignments,
    draw_rank_errors,
    draw_ranks,
    prediction_figure,
)
from rmtdeq.output.figures.training import classification_figure, draw_training, training_figure

__all__ = [
    "classification_figure",
    "comparison_figure",
    "design_figure",
    "diagnosis_figure",
    "draw_activations",
    "draw_alignments",
    "draw_rank_errors",
    "draw_ranks",
    "draw_spectra",
    "draw_training",
    "learning_figure",
    "prediction_figure",
    "ridge_figure",
    "suggestion_figure",
    "training_figure",
]
