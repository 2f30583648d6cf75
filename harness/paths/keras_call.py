"""One loss function of Keras, and the paths of calling it in different ways.

Keras 3 and tf_keras share signatures. Each loss is called as function and as class, on logits and
on probabilities that reach it in several ways, since Keras looks behind the probabilities for the
logits that they came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.paths.expression import SAMPLE_WEIGHTS, expression_path

if TYPE_CHECKING:
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.path import LossPath

PREDICTIONS: dict[str, str] = {
    "from-logits": "{logits}",
    "cached-logits": "{api}.activations.softmax({logits})",
    "softmax-op": "tf.nn.softmax({logits})",
    "softmax-identity": "tf.identity(tf.nn.softmax({logits}))",
    "softmax-layer": "{api}.layers.Softmax(dtype=logits.dtype.name)({logits})",
    "activation-layer": '{api}.layers.Activation("softmax", dtype=logits.dtype.name)({logits})',
    "ops-softmax": "{api}.ops.softmax({logits})",
    "softmax-reshape": "tf.reshape(tf.nn.softmax({logits}), tf.shape({logits}))",
    "softmax-cast": "tf.cast(tf.nn.softmax({logits}), tf.float32)",
    "softmax-times-one": "tf.nn.softmax({logits}) * 1.0",
    "cached-sigmoid": "{api}.activations.sigmoid({logits})",
    "sigmoid-op": "tf.sigmoid({logits})",
    "sigmoid-identity": "tf.identity(tf.sigmoid({logits}))",
}
"""How users get the predictions that they hand to a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KerasLoss:
    """One loss function with fixed arguments.

    Attributes:
        name: how its paths are called; nothing for sparse categorical cross-entropy, the first.
        function: its name in ``losses``; its class's is the same in capitals.
        loss: the mathematics that it is used for.
        on_probabilities: by API, what it promises on probabilities; another API's is the same
            as Keras's.
        ways: by API, kinds of calls with the predictions they are made on: ``function``,
            ``class``, or ``class-own-dtype``, which is told the logits' dtype.
        on_logits: what it promises on logits; by default the loss itself.
        arguments: further ones, of the function or of the class.
        logits: what it gets instead of ``logits``.
        labels: what it gets instead of ``labels``.
        reduction: of the class: a literal, or nothing for the default.
        sample_weight: whether the class is called with weights.
        takes_from_logits: whether it has the argument ``from_logits``.
    """

    name: str
    function: str
    loss: LossSpec
    on_probabilities: dict[str, LossSpec]
    ways: dict[str, tuple[str, ...]]
    on_logits: LossSpec | None = None
    arguments: tuple[str, ...] = ()
    logits: str = "logits"
    labels: str = "labels"
    reduction: str = '"none"'
    sample_weight: bool = False
    takes_from_logits: bool = True

    def paths(self, api: str) -> tuple[LossPath, ...]:
        """Its paths by one of the packages."""
        return tuple(self._path(api, *way.split("/")) for way in self.ways.get(api, ()))

    def _path(self, api: str, kind: str, way: str) -> LossPath:
        promised = self.on_probabilities.get(api, self.on_probabilities["keras"])
        if way == "from-logits":
            promised = self.on_logits or self.loss
        return expression_path(
            "/".join(part for part in (api, self.name, kind, way) if part),
            self.loss,
            self._source(api, kind, way),
            api=api,
            documented=promised,
        )

    def _source(self, api: str, kind: str, way: str) -> str:
        predictions = PREDICTIONS[way].format(api=api, logits=self.logits)
        arguments = [f"from_logits={way == 'from-logits'}"] if self.takes_from_logits else []
        arguments += self.arguments
        if kind == "function":
            listed = ", ".join([self.labels, predictions, *arguments])
            return f"{api}.losses.{self.function}(\n    {listed})"
        if self.reduction:
            arguments.append(f"reduction={self.reduction}")
        if kind == "class-own-dtype":
            arguments.append("dtype=logits.dtype.name")
        given = f"{self.labels}, {predictions}"
        if self.sample_weight:
            given += f", sample_weight={SAMPLE_WEIGHTS}"
        return f"{api}.losses.{self._class}(\n    {', '.join(arguments)})({given})"

    @property
    def _class(self) -> str:
        if self.function == "kl_divergence":
            return "KLDivergence"
        return "".join(word.capitalize() for word in self.function.split("_"))
