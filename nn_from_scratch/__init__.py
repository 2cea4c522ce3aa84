"""How a neural network is trained, as a library. What stands in which room, and in which chapter it is explained:

A model is a tree of arrays and functions. It computes with plain NumPy until someone asks for a gradient.
    functions, initial          linear, the activations; the first weights                        1
    layers, modules             Linear, Sequential, mlp; what a part of a network can do          1, 1b
    tree, parameters            all its numbers as one vector with names                          1b
    layout, turns               where each stands in the model, and whose turn it is              1b
Layers that read sequences: a row of numbers for each letter, a state that is handed on.
    embedding, recurrent        Embedding; RNN, GRU, LSTM                                         13, 14
    embedding_demands, recurrent_demands      what is asked of them                               13, 14
    fast_embedding, fast_recurrent, sequence_files   in less time; their files                    13, 14
Attention, and a small GPT made of it.
    attention, gpt, tokens      MultiHeadAttention; GPT, generate; letters and pairs of bytes     15, 16
    attention_demands, fast_attention, fast_gpt, gpt_files   what is asked; in less time; as a file   15, 16
A loss is one number that says how wrong the model is; a metric says it in words of the task.
    losses, metrics             mse, cross_entropy; accuracy, r2_score                            2
A gradient says how the loss changes with each parameter. It is taken by a table of rules and a tape.
    rules, checking             how a gradient goes back through each operation; its judge        3, 3b
    tape, calls, walk           what was computed from what, and the way back                     3b
    gradients, arguments        value_and_grad, and what it can be taken for                      3b
    numpy_rules, shape_rules, joining_rules, linalg_rules,
    matrix_rules, reduction_rules, series_rules   rules for the rest of NumPy                          A
A step is: new parameter = old parameter - learning rate x gradient.
    optim, optimizer, modern    SGD to AdamW; what they share; Lion, Muon, ScheduleFree           4, 4b
    schedules                   the learning rate, step by step                                   4
A run is steps over batches, epoch by epoch, until it has done enough. `fit` is told of it in one line.
    training, batches, run      fit; the order of the data; History and callbacks                 5
    evaluation, stopping        predict, evaluate; every way in which a run ends                  5
    progress, states, packing   the bar; what a run remembers; as bytes                           5, E
    checkpoints                 a run that goes on where it was killed                            E
    descriptions                a run in words: what must be the same when it goes on             E
    dropout, norms              units left out at random; features kept at mean 0 and spread 1    9, 10
    averaging, folds            the mean of the weights on the way; each row held back once       9
    checkup, probe              what ails a run, in sentences: by symptoms, trial and rehearsal   8
Data goes in, pictures and files come out.
    convolution, transposed, pooling   layers for pictures; what is asked of them: image_demands  12
    image_files                 these layers in files                                             12
    data, plots                 moons to MNIST, splits, scales; every picture of the book         6, B
    sharing, architecture, onnx, norm_files   a model as a file, in words, for other programs     20
    tables, columns, preparation     a table of your own, and what makes numbers of it            7
    forms, table_files          numbers and dates as people write them; the file of a table       7
    tasks, questions, splits, reports, units   what the commands learn, and what they say of it   C
    albums                      a folder of pictures, one sub-folder a class                      C
    cli, answers, console, run_folders   the commands nn_train and nn_predict                     C
    text_command                the command nn_generate, and a small GPT on a text                16
    estimators, learners, seen  scikit-learn's interface                                          D
What protects and what hurries joins from outside, by tables, as the rules do.
    asking, loss_demands, norm_demands, settings   what is asked of arguments (by checks, in the words there)   F
    fast, quick_steps, fast_norms    the same numbers in less time                                     17
    fast_convolution, fast_stages, memory   the same for pictures; memory that is kept            12
    parallel, ranks             several workers, one gradient: threads, or processes by MPI       19
    compiler                    a function traced once, and replayed: compile, training_step      18
"""

__version__ = "0.1.0"

# The imports below are written by hand; nbdev only sets the version above.
from typing import TYPE_CHECKING

from .averaging import WeightAverage
from .batches import batches
from .checking import grad_check, numeric_grad
from .checkpoints import Checkpoints
from .checkup import Checkup, checkup
from .convolution import Conv1d, Conv2d, conv1d, conv2d
from .data import (
    Standardize, circles, load_cifar10, load_digits, load_fashion_mnist, load_mnist, load_names,
    load_text, moons, read_idx, regression, spiral, train_valid_split, xor)
from .dropout import Dropout, dropout
from .embedding import Embedding, embedding
from .evaluation import evaluate, predict
from .folds import kfold
from .functions import (
    cast, elu, gelu, identity, leaky_relu, linear, neuron, operation, relu, sigmoid, silu, softplus, tanh, weighted_sum)
from .gradients import grad, graph, value_and_grad
from .initial import glorot_normal, glorot_uniform, he_normal, he_uniform, lecun_normal
from .layers import Linear, Sequential, mlp
from .losses import (
    binary_cross_entropy, cross_entropy, huber, log_softmax, mae, mse, one_hot, softmax)
from .metrics import accuracy, classification_report, confusion_matrix, r2_score
from .modern import Lion, Muon, ScheduleFree, wsd
from .modules import Module
from .norms import BatchNorm, LayerNorm, RMSNorm, batch_norm, layer_norm, rms_norm
from .onnx import export_onnx
from .optim import SGD, Adagrad, Adam, AdamW, RMSprop, clip_grad_norm, gradient_descent
from .optimizer import Optimizer
from .parameters import Parameters
from .plots import (
    COLORS, LINES, MARKERS, animate_boundary, boundary_grid, plot_activations, plot_confusion_matrix, plot_decision_boundary,
    plot_feature_maps, plot_graph, plot_half_plane, plot_histograms, plot_history, plot_images, plot_kernels, plot_learning_rates,
    plot_loss_surface, plot_network, plot_probe, plot_receptive_field, plot_saliency, plot_schedule)
from .pooling import AvgPool2d, Flatten, MaxPool2d, avg_pool2d, global_avg_pool, max_pool2d
from .preparation import Preparation
from .probe import Probe
from .recurrent import GRU, LSTM, RNN
from .rules import defvjp
from .run import Callback, History, Run
from .schedules import cosine_decay, exponential_decay, one_cycle, step_decay, warmup
from .sharing import load, save
from .stopping import EarlyStopping, LearningRateFinder, ReduceLROnPlateau, has_converged
from .tables import Table, read_table
from .tape import Tensor, stop_gradient
from .training import fit
from .transposed import ConvTranspose2d, conv_transpose2d

from .attention import MultiHeadAttention, attention, rotary
from .gpt import GPT, TransformerBlock, bits_per_byte, generate
from .gpt_files import from_gpt2
from .tokens import BytePairs, Characters, Windows

from . import (  # rows of the tables: what is asked, rules for the rest of NumPy
    asking, joining_rules, linalg_rules, matrix_rules, norm_demands, norm_files, numpy_rules, reduction_rules, series_rules,
    settings, shape_rules)
from . import albums, attention_demands, embedding_demands, gpt_files, recurrent_demands, sequence_files, units
from . import (
    fast, fast_attention, fast_convolution, fast_embedding, fast_gpt, fast_norms, fast_recurrent, fast_stages, image_demands, image_files,
    memory, quick_steps)

memory.keep_memory()  # what a step frees, the next one takes again
fast.enable()  # the same numbers in less time: without this line all runs as the chapters say

if TYPE_CHECKING:
    from .compiler import compile, training_step
    from .estimators import NeuralNetworkClassifier, NeuralNetworkRegressor

__all__ = [
    # what a network computes
    "weighted_sum", "neuron", "linear", "operation", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus",
    "identity", "cast", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal",
    # models
    "Module", "Linear", "Sequential", "mlp", "Parameters", "Dropout", "dropout", "BatchNorm", "LayerNorm", "RMSNorm",
    "batch_norm", "layer_norm", "rms_norm",
    # pictures as inputs
    "Conv2d", "ConvTranspose2d", "Conv1d", "MaxPool2d", "AvgPool2d", "Flatten", "conv2d", "conv_transpose2d", "conv1d", "max_pool2d",
    "avg_pool2d", "global_avg_pool",
    # sequences
    "embedding", "Embedding", "RNN", "GRU", "LSTM",
    # attention
    "attention", "rotary", "MultiHeadAttention", "TransformerBlock", "GPT", "generate", "bits_per_byte", "from_gpt2",
    "Characters", "BytePairs", "Windows",
    # losses and metrics
    "mse", "mae", "huber", "binary_cross_entropy", "cross_entropy", "softmax", "log_softmax", "one_hot",
    "accuracy", "r2_score", "confusion_matrix", "classification_report",
    # gradients
    "value_and_grad", "grad", "stop_gradient", "Tensor", "defvjp", "numeric_grad", "grad_check", "graph",
    # optimizers and schedules
    "Optimizer", "SGD", "Adagrad", "RMSprop", "Adam", "AdamW", "Lion", "Muon", "ScheduleFree", "clip_grad_norm",
    "gradient_descent", "step_decay", "exponential_decay", "cosine_decay", "one_cycle", "warmup", "wsd",
    # training
    "fit", "batches", "evaluate", "predict", "History", "Run", "Callback", "EarlyStopping", "ReduceLROnPlateau",
    "LearningRateFinder", "Checkpoints", "has_converged", "checkup", "Checkup", "Probe", "WeightAverage",
    # data
    "load_digits", "load_mnist", "load_fashion_mnist", "load_cifar10", "read_idx",
    "moons", "circles", "spiral", "xor", "regression", "train_valid_split", "kfold", "Standardize",
    "load_names", "load_text",
    "read_table", "Table", "Preparation",
    # pictures
    "plot_history", "plot_decision_boundary", "plot_half_plane", "animate_boundary", "boundary_grid", "plot_loss_surface",
    "plot_network", "plot_graph", "plot_activations", "plot_histograms", "plot_schedule", "plot_learning_rates", "plot_images",
    "plot_confusion_matrix", "plot_probe", "plot_kernels", "plot_feature_maps", "plot_saliency", "plot_receptive_field", "COLORS", "MARKERS", "LINES",
    # files
    "save", "load", "export_onnx",
]
# Imported when asked for: the compiler, and the estimators, which need scikit-learn, an extra.
_rooms = {"compile": "compiler", "training_step": "compiler",
          "NeuralNetworkClassifier": "estimators", "NeuralNetworkRegressor": "estimators"}


def __getattr__(name):
    if name not in _rooms: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    found = globals()[name] = getattr(import_module(f".{_rooms[name]}", __name__), name)
    return found


def __dir__(): return [*__all__, *_rooms, "fast", "__version__"]
