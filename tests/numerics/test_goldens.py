"""Our kernels against those of two other systems; see tests/goldens/README.md."""

import json
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

from asymptest.numerics.attention import mask_array, softmax
from asymptest.numerics.kernel import kernel
from asymptest.theory import (
    Activation,
    Additive,
    Attention,
    Blocks,
    Dense,
    Elementwise,
    LayerNorm,
    Linear,
    Mix,
    Mlp,
    Network,
    Pointwise,
    Product,
    Residual,
    RMSNorm,
    Softmax,
    abs_,
    gelu,
    hermite,
    leaky_relu,
    monomial,
    polynomial,
    relu,
    sign,
)
from asymptest.theory.piecewise import x

GOLDENS = Path(__file__).parent.parent / "goldens"
TANGENTS = sorted((GOLDENS / "neural-tangents").glob("*.npz"))
GP4A = sorted((GOLDENS / "gp4a").glob("*.npz"))

TOLERANCE = 1e-12  # relative to the largest entry; tests/goldens/README.md


def exact(number: float) -> sp.Expr:
    """Return the decimal that was written, so that SymPy keeps closed forms closed."""
    return sp.Rational(str(number))


def activation(name: str, given: dict[str, Any]) -> Activation:
    a, b, c = (exact(given.get(k, d)) for k, d in zip("abc", (1, 1, 0), strict=True))
    match name:
        case "Relu":
            return relu
        case "Gelu":
            return gelu
        case "Abs":
            return abs_
        case "Sign":
            return sign
        case "LeakyRelu":
            return leaky_relu(exact(given["alpha"]))
        case "ABRelu":
            return Activation("abrelu", a * x + (b - a) * x * sp.Heaviside(x))
        case "Erf":
            return Activation("erf", a * sp.erf(b * x) + c)
        case "Sin":
            return Activation("sin", a * sp.sin(b * x + c))
        case "Gabor":
            return Activation("gabor", sp.exp(-(x**2)) * sp.sin(x))
        case "Rbf":
            frequency = sp.sqrt(2 * exact(given["gamma"]))
            return Activation("rbf", sp.sqrt(2) * sp.sin(frequency * x + sp.pi / 4))
        case "Hermite":
            return hermite(given["degree"])
        case "Monomial":
            return monomial(given["degree"])
        case "RectifiedMonomial":
            return Activation("rectified", x ** given["degree"] * sp.Heaviside(x))
        case "Polynomial":
            return polynomial(*map(exact, given["coef"]))
        case _:
            raise NotImplementedError(f"no layer {name}({given})")


class Translator:
    """A neural-tangents description as one of our networks on stacked sequences."""

    def __init__(
        self,
        sequences: int,
        length: int,
        removed: np.ndarray,
        K0: np.ndarray,
        features: int,
    ):
        self.K0, self.features = K0, features
        self.lengths = (length,) * sequences
        same = mask_array(Blocks(self.lengths), sequences * length)
        self.kept = same & ~removed[None, :]
        self.mask = self.kept if removed.any() else Blocks(self.lengths)

    def chain(self, spec: list[Any]) -> Network:
        return reduce(self.append, spec[1:], self.layer(spec[0]))

    def append(self, network: Network, spec: list[Any]) -> Network:
        if spec[0] != "ExpNormalized":
            return network >> self.layer(spec)
        # K_ij = sqrt(K_ii K_jj) exp(gamma (rho_ij - 1)): no activation does this at every
        # variance, but one does at variance 1, and a fixed Mix restores the sizes.
        gamma = exact(spec[1]["gamma"])
        wave = Activation("normalized exp", sp.exp(sp.sqrt(gamma) * x - gamma))
        size = np.sqrt(np.diagonal(kernel(network, self.K0)))
        unit = network >> RMSNorm() >> Dense() >> Pointwise(wave)
        return unit >> Mix(np.diag(size))

    def layer(self, spec: list[Any]) -> Network:
        name, *rest = spec
        if name == "Repeat":
            return self.chain(rest[1]) * rest[0]
        if name == "Res":
            return Residual(self.chain(rest[0]))
        if name == "Prod":
            return Product(*map(self.chain, rest))
        (given,) = rest
        match name:
            case "Dense":
                self.only(spec, "out_dim", "W_std", "b_std")
                return Dense(given["W_std"] ** 2, (given["b_std"] or 0) ** 2)
            case "LayerNorm":
                self.only(spec, "axis", "eps")
                return LayerNorm(given.get("eps", 1e-12))
            case "GlobalSelfAttention":
                return self.attention(spec, **given)
            case "GlobalSumPool":
                return Mix(self.kept)
            case "GlobalAvgPool":
                return Mix(self.kept / self.kept.sum(1, keepdims=True))
            case _:
                return Pointwise(activation(name, given))

    def attention(self, spec: list[Any], **given: Any) -> Network:
        widths = ("n_chan_out", "n_chan_key", "n_chan_val", "n_heads")
        stds = ("W_key_std", "W_query_std", "W_value_std", "W_out_std", "b_std")
        positions = ("type", "decay_fn", "p_norm")
        other = (
            "linear_scaling",
            "attention_mechanism",
            "val_pos_emb",
            "W_pos_emb_std",
        )
        encoding = (*(f"pos_emb_{name}" for name in positions), "n_chan_pos_emb")
        self.only(spec, *widths, *stds, *other, *encoding)
        mechanisms: dict[str, Any] = {
            "SOFTMAX": Softmax,
            "IDENTITY": Linear,
            "ABS": partial(Elementwise, phi=abs_),
            "RELU": partial(Elementwise, phi=relu),
        }
        pattern = mechanisms[given.get("attention_mechanism", "SOFTMAX")]
        logits: dict[str, Any] = {"scale": "1/d", "tied": True}
        logits["variance"] = given["W_key_std"] * given["W_query_std"]
        if not given["linear_scaling"]:
            logits = {"variance": logits["variance"] ** 2}
        if given.get("pos_emb_type", "NONE") != "NONE":
            position = self.position(**given)
            if given["val_pos_emb"]:  # all see the encodings: they belong to the input
                kernel = np.reshape(position.kernel.tolist(), self.K0.shape)
                self.K0 = float(position.content) ** 2 * self.K0 + kernel
            else:
                logits["position"] = position
        return Attention(
            pattern(**logits),
            mask=self.mask,
            heads=given["n_heads"],
            value=Dense(given["W_value_std"] ** 2),
            output=Dense(given["W_out_std"] ** 2, (given["b_std"] or 0) ** 2),
        )

    def position(self, **given: Any) -> Additive:
        """Return encodings that are common to all sequences, summed or concatenated."""
        T = self.lengths[0]
        at = np.arange(T)
        d = np.abs(np.subtract.outer(at, at)) ** given.get("pos_emb_p_norm", 2)
        decay = {"none": d == 0, "lin4": 1 / (1 + 4 * d), "exp": np.exp(-1.0 * d)}
        kernel = given["W_pos_emb_std"] ** 2 * decay[given["pos_emb_decay_fn"]]
        every = np.kron(np.ones((len(self.lengths), len(self.lengths))), kernel)
        if given["pos_emb_type"] == "SUM":
            return Additive(every)
        content = self.features / (
            self.features + given.get("n_chan_pos_emb", self.features)
        )
        return Additive((1 - content) * every, content**0.5)

    @staticmethod
    def only(spec: list[Any], *known: str) -> None:
        unknown = set(spec[1]) - set(known)
        if unknown:
            raise NotImplementedError(f"{spec[0]} with the arguments {unknown}")


def by_sequence(K: np.ndarray, sequences: int) -> np.ndarray:
    """Return (sequences, sequences, T, T) in place of (sequences T, sequences T)."""
    T = len(K) // sequences
    return K.reshape(sequences, T, sequences, T).transpose(0, 2, 1, 3)


def close(ours: np.ndarray, golden: np.ndarray) -> bool:
    assert ours.shape == golden.shape
    return bool((np.abs(ours - golden) <= TOLERANCE * np.abs(golden).max()).all())


@pytest.mark.parametrize("path", TANGENTS, ids=lambda path: path.stem)
def test_kernel_is_that_of_neural_tangents(path: Path) -> None:
    with np.load(path, allow_pickle=False) as golden:
        data = {key: golden[key] for key in golden.files}
    inputs = [data[key] for key in ("x1", "x2") if key in data]
    stacked = np.concatenate(inputs)
    sequences = len(stacked)
    length = stacked.shape[1] if stacked.ndim == 3 else 1
    rows = stacked.reshape(-1, stacked.shape[-1])
    masks = [data[key].ravel() for key in ("mask1", "mask2") if key in data]
    removed = np.concatenate(masks) if masks else np.zeros(len(rows), dtype=bool)

    K0 = rows @ rows.T / rows.shape[1]
    translator = Translator(sequences, length, removed, K0, rows.shape[1])
    network = translator.chain(json.loads(str(data["spec"])))
    K = by_sequence(kernel(network, translator.K0), sequences)

    first = len(data["x1"])
    cross = K[:first, first:] if "x2" in data else K[:first, :first]
    own = K[np.arange(sequences), np.arange(sequences)]
    if data["nngp"].ndim == 2:  # flat inputs, or pooled: every row is the average
        cross, own = cross[..., 0, 0], own[..., 0, 0]
    assert close(cross, data["nngp"])
    theirs = np.concatenate([data[k] for k in ("cov1", "cov2") if k in data])
    if path.stem.startswith("act_rectmonomial"):
        assert np.isnan(theirs).all()
    else:
        assert close(own, theirs)


CLIP = 1e-5  # GP4A's ReLU kernel replaces correlations above 1 - CLIP


def clipped_relu(q: np.ndarray) -> np.ndarray:
    """Return E relu(u) relu(v) at the correlation 1 - CLIP and the variances q."""
    near = np.array([[1.0, 1 - CLIP], [1 - CLIP, 1.0]])
    return np.array([kernel(Pointwise(relu), s * near)[0, 1] for s in q])


def gp4a(data: dict[str, Any], clip: bool) -> np.ndarray:
    """Return the kernel of GP4A's transformer, with or without its clipping."""
    K, start = data["ingram"], int(data["seq2idx"])
    given = json.loads(str(data["params"]))
    mask = mask_array(Blocks((start, len(K) - start), causal=True), len(K))
    dense = Dense(given["vw"], given["vb"])
    for _ in range(given["depth"]):
        K = kernel(Dense(given["vu"]), K)
        A = softmax(K, mask)
        layer1 = kernel(Residual(Mix(A)) >> LayerNorm(), K)
        # No correlation between different tokens comes near the clip.
        assert np.triu(layer1, 1).max() < 1 - 100 * CLIP
        K = kernel(Residual(Mlp(relu, 1, dense, dense)), layer1)
        if clip:
            hidden = np.diagonal(kernel(dense, layer1))
            # 1e-5 of 1: a matrix like this one need not be PSD, so no `kernel` here.
            lost = given["vw"] * (hidden / 2 - clipped_relu(hidden))
            K[np.diag_indices_from(K)] -= lost
            root = np.sqrt(np.diagonal(K))
            K = K / root[:, None] / root
        else:
            K = kernel(LayerNorm(), K)
    return K


@pytest.mark.parametrize("path", GP4A, ids=lambda path: path.stem)
def test_kernel_is_that_of_gp4a(path: Path) -> None:
    with np.load(path, allow_pickle=False) as golden:
        data = {key: golden[key] for key in golden.files}
    assert close(gp4a(data, clip=True), data["kernel"])
    # Without their clipping, the difference is what clipping explains, and no more.
    gap = np.abs(gp4a(data, clip=False) - data["kernel"]).max()
    assert 1e-6 < gap < 1e-5


def test_no_golden_is_lost() -> None:
    assert len(TANGENTS) == 78
    assert len(GP4A) == 2


@pytest.mark.parametrize(
    "spec",
    [
        ["ExpNormalized", {"gamma": 1.0}],
        ["Dense", {"W_std": 1.0, "b_std": None, "parameterization": "standard"}],
        ["GlobalSelfAttention", {"linear_scaling": True, "n_dim": 2}],
    ],
)
def test_an_unknown_layer_is_an_error(spec: list[Any]) -> None:
    with pytest.raises(NotImplementedError):
        Translator(1, 1, np.zeros(1, dtype=bool), np.eye(1), 1).layer(spec)
