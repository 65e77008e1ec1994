"""What a module's description predicts for the kernel of every layer, over several widths.

The prediction is read at infinite width with the weights that `extrapolation` gives the
modules' own kernels, so that both sides are the same linear combination over the widths.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from asymptest.numerics.kernel import EVALUATIONS, evaluations
from asymptest.theory.network import Network
from asymptest.verify.design import extrapolation
from asymptest.verify.families import natural_scale, upper
from asymptest.verify.reading.parts import Reading
from asymptest.verify.text import token_kernel

Sequences = Int[np.ndarray, "sequences T"]
Rows = Float[np.ndarray, "states d"]  # on and above the diagonal
Networks = Mapping[int, Network]
Mutants = Callable[[Network, int], Mapping[str, Network]]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The kernels of all states, averaged over sequences: the input, then every layer.

    Args:
        value: extrapolated over the widths.
        error: its standard error, from random logits.
        scale: sqrt(K_ii K_jj) at the largest width.
    """

    value: Rows
    error: Rows
    scale: Rows

    def reach(self, alpha: float) -> Float[np.ndarray, " states"]:
        """Return how far the values may be off, / scale, but for probability alpha."""
        likely = -float(stdtrit(EVALUATIONS - 1, alpha / (2 * self.error.size)))
        return (likely * self.error / self.scale).max(1)

    def apart(self, other: "Prediction") -> Float[np.ndarray, " states"]:
        """Return how far it is from another prediction at each state, / the other's scale."""
        return (np.abs(self.value - other.value) / other.scale).max(1)


def predictions(
    readings: Mapping[int, Reading],
    ids: Sequences,
    mutants: Mutants,
    samples: int,
    seed: int,
) -> tuple[Prediction, dict[str, Prediction]]:
    """Return what the descriptions of modules predict, and what wrong ones do, by name.

    Args:
        readings: width -> reading of the module.
        ids: token ids, one sequence a row.
        mutants: (description, width) -> wrong descriptions.
        samples: draws of random logits.
        seed: of these draws.
    """
    networks = {n: reading.network for n, reading in readings.items()}
    own = predict(networks, readings, ids, samples, seed)
    wrong = {n: mutants(network, n) for n, network in networks.items()}
    others: dict[str, Prediction] = {}
    for name in wrong[max(wrong)]:
        # At some width it may be no different.
        mutant = {n: wrong[n].get(name, network) for n, network in networks.items()}
        others[name] = predict(mutant, readings, ids, samples, seed)
    return own, others


def predict(
    networks: Networks,
    readings: Mapping[int, Reading],
    sequences: Sequences,
    samples: int,
    seed: int,
) -> Prediction:
    """Return what networks, one a width, predict from the kernels of their inputs.

    Args:
        networks: width -> description.
        readings: width -> reading of the module, for its input's kernel.
        sequences: token ids, one sequence a row.
        samples: draws of random logits, where there are any.
        seed: of these draws, common to all widths so that they cancel in differences.
    """
    weights = extrapolation(tuple(networks))
    runs = np.array(
        [
            mean_kernels(network, readings[n], sequences, samples, seed)
            for n, network in networks.items()
        ]
    )
    values = np.einsum("w,wbsij->bsij", weights, runs)
    widest = runs[list(networks).index(max(networks))].mean(0)
    count = len(values)
    spread = values.std(0, ddof=1) if count > 1 else np.zeros_like(values[0])
    return Prediction(
        upper(values.mean(0)),
        upper(spread) / count**0.5,
        upper(np.array([natural_scale(K) for K in widest])),
    )


def mean_kernels(
    network: Network, reading: Reading, sequences: Sequences, samples: int, seed: int
) -> Float[np.ndarray, "evaluations states T T"]:
    """Return independent evaluations of the kernels of the input and after each layer.

    Each is a mean over sequences.
    """
    inputs = [input_kernel(reading, ids) for ids in sequences]
    distinct, counts = np.unique(np.array(inputs), axis=0, return_counts=True)
    found = [evaluations(network, K0, samples, seed) for K0 in distinct]
    return np.average(found, axis=0, weights=counts)


def input_kernel(
    reading: Reading, ids: Int[np.ndarray, " T"]
) -> Float[np.ndarray, "T T"]:
    """Return the kernel that a module's network starts from on one sequence."""
    law = reading.embedding
    return token_kernel(ids).astype(np.float64) if law is None else law.kernel(ids)
