"""Write tests/golden/resface_tf1/, tiny ResFaces by TensorFlow itself that tests/export/test_tf1.py converts.

Run with TensorFlow 2.21.0 and NumPy 2.4.6 on a little-endian machine, in an environment of its own:

    pip install tensorflow-cpu==2.21.0
    python tests/golden/make_resface_tf1.py

The graphs are written from the paper's equations (arXiv 2102.04075, section 5 and Fig. 2), under the names of the
authors' variables; weights are random, the batch norms have the statistics of the images, without which numbers grow
from block to block. All are rounded to half precision, so that they pack well.

    fused-1     ResFace-20 at width 1/16, fusion, one output
    plain-1     ResFace-20 at width 1/32, the flattened last stage alone, one output
    pfe-1       ResFace-20 at width 1/32, fusion, D outputs
    trained-7   ResFace-64 at width 1/32, fusion, one output; saved in training: slots of Momentum and Adam, a step
                counter, and the class matrix
    base-1      ResFace-36 at width 1/32 without a head
    io.npz      images, uint8 (3, 96, 96, 3), and for each of these mu, sigma_sq and feat (what the head reads) as
                TensorFlow computes them in inference mode, from (pixel - 128) / 128
    broken/     what cannot be converted, at width 1/64: see BROKEN
"""

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
HERE = Path(__file__).parent / "resface_tf1"
Change = Callable[[str, np.ndarray], np.ndarray | None]
EPSILON = 1e-3
BLOCKS = {20: (1, 2, 4, 1), 36: (2, 4, 8, 2), 64: (3, 8, 16, 3)}
PEOPLE = 5
LEAST_VARIANCE = 0.3
"""Added to that of the images: between three images alone it may be so small that rounding is blown up."""


@dataclass
class Net:
    """Depth, channels of the first stage and D; ``outputs`` 0 is no head, ``hidden`` the width of its first layer.

    ``training`` saves what a training saves besides, ``teacher`` a second network.
    """

    depth: int = 20
    channels: int = 2
    dim: int = 12
    fusion: bool = True
    outputs: int = 1
    hidden: int = 10
    training: bool = False
    teacher: bool = False


NETS = {
    "fused-1": Net(channels=4, dim=16, hidden=16),
    "plain-1": Net(fusion=False),
    "pfe-1": Net(outputs=12),
    "trained-7": Net(depth=64, training=True),
    "base-1": Net(depth=36, outputs=0),
}
SMALL = Net(channels=1, dim=2, hidden=2)


class Variables:
    """Makes variables with random values; ``change`` may alter what is saved of one, or leave it out, by its name."""

    def __init__(self, seed: int, change: Change) -> None:
        self.rng = np.random.default_rng(seed)
        self.change = change
        self.saved: dict[str, tf.Variable] = {}
        self.settle: list[tf.Operation] = []

    def __call__(self, name: str, *shape: int, mean: float = 0.0, spread: float = 0.0, low: float = 0.0) -> tf.Variable:
        """Normal around ``mean``; uniform from ``low`` to 3 ``low`` where that is given."""
        value = self.rng.uniform(low, 3 * low, shape) if low else self.rng.normal(mean, spread, shape)
        value = np.asarray(value, np.float16).astype(np.float32)
        made = v1.Variable(value, name=name, use_resource=False)
        changed = self.change(name, value)
        if changed is not None:
            self.saved[name] = made if changed is value else v1.Variable(changed, use_resource=False)
        return made

    def norm(self, x: tf.Tensor, scope: str, affine: bool = True) -> tf.Tensor:
        size, scope = x.shape[-1], f"{scope}/BatchNorm"
        beta = self(f"{scope}/beta", size, spread=0.3) if affine else None
        gamma = self(f"{scope}/gamma", size, low=0.5) if affine else None
        mean, variance = self(f"{scope}/moving_mean", size), self(f"{scope}/moving_variance", size, low=LEAST_VARIANCE)
        found = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        halves = [tf.cast(tf.cast(value, tf.float16), tf.float32) for value in found]
        self.settle.append(tf.group(mean.assign(halves[0]), variance.assign_add(halves[1])))
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)

    def convolution(self, x: tf.Tensor, outputs: int, scope: str, stride: int = 1) -> tf.Tensor:
        inputs = x.shape[-1]
        weights = self(f"{scope}/weights", 3, 3, inputs, outputs, spread=(2 / (9 * inputs)) ** 0.5)
        return tf.nn.relu(self.norm(tf.nn.conv2d(x, weights, stride, "SAME"), scope))

    def dense(self, x: tf.Tensor, outputs: int, scope: str) -> tf.Tensor:
        inputs = x.shape[-1]
        return x @ self(f"{scope}/weights", inputs, outputs, spread=inputs**-0.5)


def resface(make: Variables, x: tf.Tensor, net: Net, scope: str = "Resface") -> tuple[tf.Tensor, list[tf.Tensor]]:
    stages = []
    for stage, blocks in enumerate(BLOCKS[net.depth], start=1):
        channels = net.channels * 2 ** (stage - 1)
        x = make.convolution(x, channels, f"{scope}/Conv{stage}/Conv{stage}_pre", stride=2)
        for block in range(1, blocks + 1):
            place = f"{scope}/Conv{stage}/Conv_{stage}/Conv_{stage}_{block}"
            x = x + make.convolution(make.convolution(x, channels, f"{place}/Conv"), channels, f"{place}/Conv_1")
        stages.append(x)
    embedding = make.norm(make.dense(flat(x), net.dim, f"{scope}/Bottleneck"), f"{scope}/Bottleneck")
    return embedding, stages


def flat(x: tf.Tensor) -> tf.Tensor:
    """(N, H, W, C) to (N, H W C)."""
    return tf.reshape(x, (-1, int(np.prod(x.shape[1:]))))


def fuse(stages: list[tf.Tensor], fusion: bool) -> tf.Tensor:
    pooled = [tf.reduce_mean(stage, (1, 2)) for stage in stages]
    return tf.concat([flat(stages[-1]), *pooled], axis=1) if fusion else flat(stages[-1])


def sigma_sq(make: Variables, features: tf.Tensor, net: Net, scope: str = "UncertaintyModule") -> tf.Tensor:
    hidden = tf.nn.relu(make.norm(make.dense(features, net.hidden, f"{scope}/fc1"), f"{scope}/fc1"))
    out = make.dense(hidden, net.outputs, f"{scope}/fc_log_sigma_sq")
    out = make.norm(out, f"{scope}/fc_log_sigma_sq", affine=False)
    scale = make(f"{scope}/scale_and_shift/alpha", mean=0.5, spread=0.1)
    shift = make(f"{scope}/scale_and_shift/gamma", mean=-1.0, spread=0.1)
    return tf.exp(tf.math.log(1e-6 + tf.exp(scale * out + shift)))


def write(
    path: Path,
    seed: int,
    net: Net,
    images: np.ndarray,
    change: Change = lambda _, value: value,
) -> dict[str, np.ndarray]:
    """Save a network at ``path`` (the step behind its dash), and give what it computes."""
    name, step = path.name.split("-")
    with tf.Graph().as_default(), v1.Session() as session:
        make = Variables(seed, change)
        x = tf.constant((images.astype(np.float32) - 128) / 128)
        embedding, stages = resface(make, x, net)
        computed = {"mu": tf.linalg.l2_normalize(embedding, axis=1, epsilon=0.0), "feat": fuse(stages, net.fusion)}
        if net.outputs:
            computed["sigma_sq"] = sigma_sq(make, computed["feat"], net)
        if net.teacher:
            resface(make, x, net, "Teacher")
        if net.training:
            classes = make("AMSoftmax/weights", net.dim, PEOPLE, spread=1.0)
            counter = v1.train.get_or_create_global_step()
            head = [make.saved["UncertaintyModule/fc_log_sigma_sq/weights"]]
            v1.train.MomentumOptimizer(0.01, 0.9).minimize(tf.reduce_sum(computed["mu"] @ classes), counter)
            v1.train.AdamOptimizer().minimize(tf.reduce_sum(computed["sigma_sq"]), var_list=head)
            make.saved |= {variable.op.name: variable for variable in v1.global_variables()}
        saver = v1.train.Saver(make.saved, save_relative_paths=True)
        session.run(v1.global_variables_initializer())
        for layer in make.settle:  # first to last, so that each sees what the ones before it give in the end
            session.run(layer)
        saver.save(session, str(path.with_name(name)), int(step), write_meta_graph=False)
        return session.run(computed)


def _with(ending: str, value: Callable[[np.ndarray], np.ndarray | None]) -> Change:
    """Change the variable whose name ends so."""
    return lambda name, before: value(before) if name.endswith(ending) else before


def _spoilt(value: np.ndarray) -> np.ndarray:
    value = value.copy()
    value.flat[:2] = np.inf, -np.inf
    return value


BROKEN = {
    "missing-1": {"change": _with("Conv_3_2/Conv_1/BatchNorm/moving_mean", lambda _: None)},
    "blocks-1": {"change": lambda name, value: None if "Conv_3_4/" in name else value},
    "head-1": {"change": _with("fc1/weights", lambda value: value[:-1])},
    "outputs-1": {"change": _with("fc_log_sigma_sq/weights", lambda value: np.repeat(value, 3, axis=1))},
    "infinite-1": {"change": _with("Conv_3_2/Conv/weights", _spoilt)},
    "two-1": {"net": dataclasses.replace(SMALL, teacher=True)},
    "shape-1": {"change": _with("Conv_3_2/Conv/weights", lambda value: value[:2])},
    "rank-1": {"change": _with("Bottleneck/weights", np.ravel)},
}
"""A missing variable; three blocks for four; a head for fewer features, or of 3 outputs; infinite values; two networks;
a convolution of two rows; an embedding layer that is a vector. TensorFlow saves them beside the network it computes.
"""


def main() -> None:
    shutil.rmtree(HERE, ignore_errors=True)
    (HERE / "broken").mkdir(parents=True)
    images = np.random.default_rng(96).integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    arrays = {"images": images}
    for seed, (name, net) in enumerate(NETS.items()):
        arrays |= {f"{name}/{key}": value for key, value in write(HERE / name, seed, net, images).items()}
    np.savez_compressed(HERE / "io.npz", **arrays)
    for name, options in BROKEN.items():
        write(HERE / "broken" / name, 0, images=images, **{"net": SMALL, **options})
    for listing in HERE.rglob("checkpoint"):
        listing.unlink()  # names the last one saved


if __name__ == "__main__":
    main()
