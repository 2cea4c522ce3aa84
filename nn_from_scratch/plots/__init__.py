"""The pictures of a network and its training: each in one call, on arrays and callables.

figures (what all share) -> plane, surface · network, graph · training, probe · images, convolution
"""

from .convolution import plot_feature_maps, plot_kernels, plot_receptive_field, plot_saliency
from .figures import COLORS, LINES, MARKERS
from .graph import plot_graph
from .images import plot_confusion_matrix, plot_images
from .network import plot_network
from .plane import animate_boundary, boundary_grid, plot_decision_boundary, plot_half_plane
from .probe import plot_probe
from .surface import plot_loss_surface
from .training import plot_activations, plot_histograms, plot_history, plot_learning_rates, plot_schedule

__all__ = ["COLORS", "MARKERS", "LINES", "boundary_grid", "plot_decision_boundary", "plot_half_plane", "animate_boundary",
           "plot_loss_surface", "plot_network", "plot_graph", "plot_history", "plot_schedule", "plot_learning_rates",
           "plot_activations", "plot_histograms", "plot_images", "plot_confusion_matrix", "plot_probe",
           "plot_kernels", "plot_feature_maps", "plot_saliency", "plot_receptive_field"]
