"""The numpy blocks against their formulas, written out sample by sample."""

import pytest

np = pytest.importorskip("numpy", reason="numpy is not installed")

from tidegate.blocks import Blocks  # noqa: E402

RANDOM = np.random.default_rng(3)


def random(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def forward(kind, options, inputs, dense=None):
    return Blocks(dense or {}).forward({"name": "b", kind: options}, inputs)


def close(a, b):
    np.testing.assert_allclose(a, np.asarray(b, np.float32), rtol=1e-5, atol=1e-5)


def test_pairs_of_fields():
    v = random(2, 3, 4)
    dots = [[v[r, i] @ v[r, j] for i in range(3) for j in range(i)] for r in range(2)]
    close(forward("dot", {"self": False}, [v[:, :1], v[:, 1:]])[:, 0], dots)
    with_self = [[v[r, i] @ v[r, j] for i in range(3) for j in range(i + 1)] for r in range(2)]
    close(forward("dot", {"self": True}, [v])[:, 0], with_self)
    close(forward("fm", {}, [v])[:, 0, 0], np.sum(dots, axis=1))


def test_cross_layers_full_and_of_low_rank():
    x, w, b = random(2, 1, 3), random(3, 3), random(3)
    one = x[:, 0] * (x[:, 0] @ w + b) + x[:, 0]
    close(forward("cross", {"layers": 1, "rank": 0}, [x], {"b/w0": w, "b/b0": b})[:, 0], one)
    u, v = random(3, 2), random(2, 3)
    close(forward("cross", {"layers": 1, "rank": 2}, [x], {"b/u0": u, "b/v0": v, "b/b0": b})[:, 0],
          x[:, 0] * (x[:, 0] @ (u @ v) + b) + x[:, 0])


def test_attention_weighs_each_sample_by_itself():
    q, k = random(3, 1, 2), random(4, 2)
    samples = np.array([0, 0, 0, 2])
    dense = {"b/w0": random(8, 1), "b/b0": random(1)}
    score = [(np.concatenate([q[s, 0], k[i], q[s, 0] - k[i], q[s, 0] * k[i]]) @ dense["b/w0"] + dense["b/b0"])[0] for i, s in enumerate(samples)]
    options = {"units": [], "activation": "RELU", "softmax": False}
    plain = forward("attention_pool", options, [q, (samples, k)], dense)[:, 0]
    close(plain, [sum(score[i] * k[i] for i in range(3)), [0, 0], score[3] * k[3]])
    soft = forward("attention_pool", {**options, "softmax": True}, [q, (samples, k)], dense)[:, 0]
    e = np.exp(score[:3])
    close(soft, [(e / e.sum()) @ k[:3], [0, 0], k[3]])


def test_an_mlp_with_batch_norm():
    x = random(2, 1, 3)
    dense = {"b/w0": random(3, 4), "b/gamma0": random(4), "b/beta0": random(4), "b/mean0": random(4), "b/variance0": np.abs(random(4)),
             "b/w1": random(4, 1), "b/b1": random(1)}
    z = (x[:, 0] @ dense["b/w0"] - dense["b/mean0"]) / np.sqrt(dense["b/variance0"] + 1e-5) * dense["b/gamma0"] + dense["b/beta0"]
    options = {"units": [4, 1], "norm": "BATCH", "activation": "RELU", "last": "TANH"}
    close(forward("mlp", options, [x], dense)[:, 0], np.tanh(np.maximum(z, 0) @ dense["b/w1"] + dense["b/b1"]))


@pytest.mark.parametrize("kind,options,expected", [
    ("mul", {}, lambda a, b: a * b),
    ("add", {}, lambda a, b: a + b),
    ("concat", {}, lambda a, b: np.concatenate([a, b], axis=2)),
    ("slice", {"begin": 1, "end": 4}, lambda a, b: np.concatenate([a, b], axis=2)[:, :, 1:4]),
    ("slice", {"begin": 2, "end": 0}, lambda a, b: np.concatenate([a, b], axis=2)[:, :, 2:]),
    ("dropout", {"rate": 0.5}, lambda a, b: np.concatenate([a, b], axis=2)),
    ("activation", {"kind": "TANH"}, lambda a, b: np.tanh(np.concatenate([a, b], axis=2))),
    ("pool", {"kind": "MEAN"}, lambda a, b: (a + b) / 2),
    ("pool", {"kind": "MAX"}, lambda a, b: np.maximum(a, b)),
    ("cosine", {"scale": 2}, lambda a, b: [[[2 * x @ y / np.linalg.norm(x) / np.linalg.norm(y)]] for x, y in zip(a[:, 0], b[:, 0])]),
])
def test_two_vectors(kind, options, expected):
    a, b = random(3, 1, 4), random(3, 1, 4)
    close(forward(kind, options, [a, b]), expected(a, b))


def test_a_block_of_another_program_is_not_known():
    assert not Blocks({}).known({"name": "b", "custom": {"type": "mine"}})
