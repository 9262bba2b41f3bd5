"""The model graph's blocks in numpy, forward only. A value is [rows, fields, dim]; docs/config.md has the formulas."""

from __future__ import annotations

from typing import Callable

import numpy as np

Array = np.ndarray
_BATCH_NORM_EPSILON = np.float32(1e-5)


def sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x.astype(np.float64)))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(np.float32)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "RELU": lambda x: np.maximum(x, 0),
    "IDENTITY": lambda x: x,
    "TANH": np.tanh,
    "SIGMOID": sigmoid,
}


def _flat(inputs: list[Array]) -> Array:
    return np.concatenate([x.reshape(len(x), -1) for x in inputs], axis=1)


def _as_fields(inputs: list[Array]) -> Array:
    return np.concatenate(inputs, axis=1)


def _one_field(x: Array) -> Array:
    return x[:, None, :]


def _kept(inputs: list[Array]) -> Array:
    """An only input as it is, else all of them flattened."""
    return inputs[0] if len(inputs) == 1 else _one_field(_flat(inputs))


def block_inputs(block: dict) -> list[str]:
    options = block[Blocks.kind(block)]
    return options["in"] if "in" in options else [options["query"], options["sequence"]]


class Blocks:
    """Computes blocks of a model; `dense` holds the tensors by name."""

    def __init__(self, dense: dict[str, Array]):
        self._dense = dense

    @staticmethod
    def kind(block: dict) -> str:
        return next((k for k in block if k != "name"), "")

    def known(self, block: dict) -> bool:
        return hasattr(self, "_" + self.kind(block))

    def forward(self, block: dict, inputs: list[Array]) -> Array:
        kind = self.kind(block)
        return getattr(self, "_" + kind)(block["name"], block[kind], inputs)

    def _tensor(self, name: str, parameter: str) -> Array:
        return self._dense["%s/%s" % (name, parameter)]

    def _batch_norm_by(self, name: str, suffix: str, z: Array) -> Array:
        variance = np.maximum(self._tensor(name, "variance" + suffix), 0)
        scale = np.float32(1) / np.sqrt(variance + _BATCH_NORM_EPSILON)
        return (z - self._tensor(name, "mean" + suffix)) * scale * self._tensor(name, "gamma" + suffix) + self._tensor(name, "beta" + suffix)

    def _layers(self, name: str, x: Array, count: int, norm: bool, activation: str, last: str) -> Array:
        for i in range(count):
            final = i + 1 == count
            x = x @ self._tensor(name, "w%d" % i)
            x = self._batch_norm_by(name, str(i), x) if norm and not final else x + self._tensor(name, "b%d" % i)
            x = _ACTIVATIONS[last if final else activation](x)
        return x

    def _linear(self, name: str, options: dict, inputs: list[Array]) -> Array:
        x = _flat(inputs) @ self._tensor(name, "w")
        return _one_field(x + self._tensor(name, "b") if options["bias"] else x)

    def _mlp(self, name: str, options: dict, inputs: list[Array]) -> Array:
        norm = options["norm"] == "BATCH"
        return _one_field(self._layers(name, _flat(inputs), len(options["units"]), norm, options["activation"], options["last"]))

    def _fm(self, name: str, options: dict, inputs: list[Array]) -> Array:
        v = _as_fields(inputs)
        total = v.sum(axis=1)
        return (0.5 * (total * total - (v * v).sum(axis=1)).sum(axis=1)).reshape(-1, 1, 1)

    def _concat(self, name: str, options: dict, inputs: list[Array]) -> Array:
        return _one_field(_flat(inputs))

    def _add(self, name: str, options: dict, inputs: list[Array]) -> Array:
        out = inputs[0]
        for x in inputs[1:]:
            out = out + x
        return out

    def _sum(self, name: str, options: dict, inputs: list[Array]) -> Array:
        x = _flat(inputs).sum(axis=1)
        return (x + self._tensor(name, "b") if options["bias"] else x).reshape(-1, 1, 1)

    def _pool(self, name: str, options: dict, inputs: list[Array]) -> Array:
        v = _as_fields(inputs)
        pool = {"SUM": np.sum, "MEAN": np.mean, "MAX": np.max}[options["kind"]]
        return _one_field(pool(v, axis=1))

    def _mul(self, name: str, options: dict, inputs: list[Array]) -> Array:
        out = inputs[0]
        for x in inputs[1:]:
            out = out * x
        return out

    def _dot(self, name: str, options: dict, inputs: list[Array]) -> Array:
        v = _as_fields(inputs)
        products = v @ v.transpose(0, 2, 1)
        i, j = np.tril_indices(v.shape[1], 0 if options["self"] else -1)
        return _one_field(products[:, i, j])

    def _cosine(self, name: str, options: dict, inputs: list[Array]) -> Array:
        a, b = (x.reshape(len(x), -1) for x in inputs)
        norms = np.sqrt((a * a).sum(axis=1) + np.float32(1e-12)) * np.sqrt((b * b).sum(axis=1) + np.float32(1e-12))
        return (np.float32(options["scale"]) * (a * b).sum(axis=1) / norms).reshape(-1, 1, 1)

    def _cross(self, name: str, options: dict, inputs: list[Array]) -> Array:
        x0 = x = _flat(inputs)
        for i in range(options["layers"]):
            if options["rank"]:
                u = x @ self._tensor(name, "u%d" % i) @ self._tensor(name, "v%d" % i)
            else:
                u = x @ self._tensor(name, "w%d" % i)
            x = x0 * (u + self._tensor(name, "b%d" % i)) + x
        return _one_field(x)

    def _attention_pool(self, name: str, options: dict, inputs: list[Array]) -> Array:
        query, (samples, keys) = inputs[0], inputs[1]
        q = query.reshape(len(query), -1)[samples]
        pairs = np.concatenate([q, keys, q - keys, q * keys], axis=1)
        weights = self._layers(name, pairs, len(options["units"]) + 1, False, options["activation"], "IDENTITY").reshape(-1)
        if options["softmax"] and len(samples):
            highest = np.full(len(query), -np.inf, np.float32)
            np.maximum.at(highest, samples, weights)
            weights = np.exp(weights - highest[samples])
            total = np.zeros(len(query))
            np.add.at(total, samples, weights)
            weights = (weights / total[samples]).astype(np.float32)
        out = np.zeros((len(query), keys.shape[1]), np.float32)
        np.add.at(out, samples, weights[:, None] * keys)
        return _one_field(out)

    def _slice(self, name: str, options: dict, inputs: list[Array]) -> Array:
        return _one_field(_flat(inputs)[:, options["begin"]:options["end"] or None])

    def _activation(self, name: str, options: dict, inputs: list[Array]) -> Array:
        return _ACTIVATIONS[options["kind"]](_kept(inputs))

    def _batch_norm(self, name: str, options: dict, inputs: list[Array]) -> Array:
        x = _kept(inputs)
        return self._batch_norm_by(name, "", x.reshape(len(x), -1)).reshape(x.shape)

    def _dropout(self, name: str, options: dict, inputs: list[Array]) -> Array:
        return _kept(inputs)
