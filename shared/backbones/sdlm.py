"""Stochastic diagonal Levenberg-Marquardt: a learning rate per weight (LeCun et al. 1998).

The rate of weight k is `rate / (mu + h_k)`, h_k the curvature of the loss along that weight: the
diagonal of the Gauss-Newton matrix over a few hundred examples, estimated anew every epoch.
The paper propagates the curvature back through the network. Here it is the mean square of the
gradient at targets drawn from what the network itself predicts, which has the same expectation
for cross entropy, squared error and the loss of LeNet-5, and also counts what weights share.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from shared import backend
from shared.losses import MAPLoss

EXAMPLES = 500
_CHUNK = 5
"""Examples per estimate; 100 estimates know the curvature to about 14 %."""
_RUBBISH = -1
"""A label that is no class."""


class SDLM(keras.optimizers.Optimizer):
    """Gradient descent with the rate of every weight divided by `mu` + curvature.

    Source: LeCun et al. 1998, appendix C, with mu 0.02 and rates from 5e-4 down to 1e-5 for updates
    after every example.

    Args:
        learning_rate: The global rate.
        mu: Keeps the rates finite where the loss is flat.
        **options: Of every Keras optimizer.
    """

    def __init__(self, learning_rate=5e-4, mu=0.02, **options):
        super().__init__(learning_rate, **options)
        self.mu = mu

    def build(self, variables):
        """Make a place for the curvature of every weight; it is part of the checkpoint."""
        if self.built:
            return
        super().build(variables)
        self.curvatures = [
            self.add_variable_from_reference(variable, name="curvature") for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        """Take one step."""
        curvature = self.curvatures[self._get_variable_index(variable)]
        rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * gradient / (curvature + self.mu))

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "mu": self.mu}


class SquaredGradients(keras.optimizers.Optimizer):
    """Adds up squared gradients and leaves the weights alone."""

    def build(self, variables):
        """Make a place for the sum of every weight."""
        if self.built:
            return
        super().build(variables)
        self.sums = [self.add_variable_from_reference(v, name="squares") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        """Add up."""
        self.assign_add(self.sums[self._get_variable_index(variable)], ops.square(gradient))


class Curvature:
    """Estimates the curvatures of a network that trains with `SDLM`."""

    def __init__(self, model: keras.Model, inputs: np.ndarray, seed: int):
        """Prepare the estimate.

        Args:
            model: Compiled with `SDLM` and a loss of `train`.
            inputs: Training examples, `(n, …)`.
            seed: Of the choice of examples and targets.
        """
        self._model = model
        self._inputs = inputs
        self._seed = seed
        is_mse = type(model.loss).__name__ == "TargetMSE"
        self._draw = _draw_values if is_mse else _draw_labels
        self._probe = keras.Model(model.input, model.output)
        self._probe.compile(
            SquaredGradients(0.0),
            loss="mse" if is_mse else model.loss,
            jit_compile=backend.jit_compile(),
        )

    def estimate(self) -> None:
        """Give the optimizer the curvatures of the present weights."""
        optimizer, probe = self._model.optimizer, self._probe
        optimizer.build(self._model.trainable_variables)
        rng = np.random.default_rng((self._seed, int(optimizer.iterations)))
        inputs = self._inputs[rng.permutation(len(self._inputs))[:EXAMPLES]]
        targets = self._draw(probe.predict_on_batch(inputs), self._model.loss, rng)
        chunks = len(inputs) // _CHUNK
        probe.optimizer.build(probe.trainable_variables)
        for total in probe.optimizer.sums:
            total.assign(ops.zeros(total.shape))
        for i in range(0, chunks * _CHUNK, _CHUNK):
            probe.train_on_batch(inputs[i : i + _CHUNK], targets[i : i + _CHUNK])
        for curvature, total in zip(optimizer.curvatures, probe.optimizer.sums, strict=True):
            # The gradient of a chunk is a mean of independent ones, which divides its square.
            curvature.assign(total * (_CHUNK / chunks))


def _draw_labels(outputs: np.ndarray, loss: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw classes as a network predicts them, from logits or from the penalties of LeNet-5."""
    logits = outputs.astype(np.float64)
    if isinstance(loss, MAPLoss):
        logits = np.concatenate([-logits, np.full((len(logits), 1), -loss.j)], axis=1)
    # The largest of logits with Gumbel noise is distributed as their softmax.
    drawn = np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)
    return np.where(drawn == outputs.shape[1], _RUBBISH, drawn)


def _draw_values(outputs: np.ndarray, loss: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw targets around the outputs, so that the gradient's square is the curvature of an MSE."""
    spread = np.sqrt(outputs.shape[1] / 2)
    return (outputs + spread * rng.standard_normal(outputs.shape)).astype(np.float32)
