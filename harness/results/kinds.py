"""The kinds of finding and their two tiers."""

from __future__ import annotations

DEFECT = "defect"
"""Breaks training or a promise."""


INACCURACY = "inaccuracy"
"""A relative error that only the strict measure sees; never called a defect."""


NON_FINITE_LOSS = "non-finite loss"


NON_FINITE_GRADIENT = "non-finite gradient"


LOSS_COLLAPSE = "loss collapse"


SATURATION = "saturation"


GRADIENT_COLLAPSE = "gradient collapse"


LABEL_GRADIENT_COLLAPSE = "label-gradient collapse"


SIGN_FLIP = "sign flip"


INACCURATE_LOSS = "inaccurate loss"


INACCURATE_GRADIENT = "inaccurate gradient"


MODE_DISAGREEMENT = "mode disagreement"


UPSTREAM_IGNORED = "upstream gradient ignored"


REFUSAL = "refusal"


CRASH = "crash"


TIMEOUT = "timeout"


KINDS: dict[str, str] = {
    NON_FINITE_LOSS: "the loss is NaN or infinite where the exact one is a number of its format",
    NON_FINITE_GRADIENT: "a gradient component is NaN or infinite where the exact one is a number "
    "of its format",
    LOSS_COLLAPSE: "the loss is 0 where the exact one does not round to 0",
    SATURATION: "the loss stops growing while the exact one grows",
    GRADIENT_COLLAPSE: "the row's gradient vanishes into rounding errors, the exact one does not",
    LABEL_GRADIENT_COLLAPSE: "the true class's component alone is 0 where the exact one is not",
    SIGN_FLIP: "a gradient component has the opposite sign of the exact one",
    INACCURATE_LOSS: "the loss errs by more than rounding can explain",
    INACCURATE_GRADIENT: "a gradient component errs by more than rounding can explain",
    UPSTREAM_IGNORED: "the gradient is not multiplied with the gradient that comes from above",
    REFUSAL: "the path raises an error for valid logits and labels",
    CRASH: "the path kills the process that runs it",
    TIMEOUT: "the path does not return within the time limit",
    MODE_DISAGREEMENT: "a mode's result differs from a better mode's by more than both bounds",
}
"""Every kind with what it means, in the order of reports."""


OF_THE_LOSS = frozenset({NON_FINITE_LOSS, LOSS_COLLAPSE, SATURATION, INACCURATE_LOSS})
"""Kinds that are about the loss alone: so are their figures, whatever the gradient is."""


OF_THE_GRADIENT = frozenset(
    {
        NON_FINITE_GRADIENT,
        GRADIENT_COLLAPSE,
        LABEL_GRADIENT_COLLAPSE,
        SIGN_FLIP,
        INACCURATE_GRADIENT,
        UPSTREAM_IGNORED,
    }
)
"""Kinds that are about the gradient alone; the others are about both."""
