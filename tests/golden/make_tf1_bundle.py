"""Write tests/golden/tf1_bundle/, the checkpoints by TensorFlow itself that tests/export/test_tf1_bundle.py reads.

Run with TensorFlow 2.21.0 and NumPy 2.4.6 on a little-endian machine, in an environment of its own:

    pip install tensorflow-cpu==2.21.0
    python tests/golden/make_tf1_bundle.py

    mixed-7     every type and several shapes, a scalar, an empty tensor, a string, a hundred tiny variables
    shards-3    two data files
    sliced-1    a partitioned variable, and a plain one
    v1          a single file of the old format
    blocks.zip  blocks-1: an index of several data blocks (256 KB each) out of long names; variable n is n
    expected    .npz, the values of mixed-7 and shards-3; bfloat16 as the uint16 of the same bits
"""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
HERE = Path(__file__).parent / "tf1_bundle"
PREFIX = "Resface/Conv1/Conv_1/Conv_1_1/Conv/BatchNorm"
BLOCK_NAMES = [f"{number:04d}{'/deep' * 80}" for number in range(1300)]


def mixed() -> dict[str, np.ndarray]:
    """Values that have all bits in use, not-a-number, infinities and negative zero among the floats."""
    rng = np.random.default_rng(7)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-40, 1.0])
    with np.errstate(over="ignore"):
        arrays = {f"kinds/{kind}": special.astype(kind) for kind in ("float32", "float64", "float16")}
    arrays["kinds/bfloat16"] = special.astype(tf.bfloat16.as_numpy_dtype)
    arrays["kinds/int32"] = rng.integers(-(2**31), 2**31, (2, 3, 1, 5), dtype=np.int32)
    arrays["kinds/int64"] = rng.integers(-(2**63), 2**63 - 1, (4, 4), dtype=np.int64)
    arrays["kinds/bool"] = rng.integers(0, 2, (3, 5)).astype(bool)
    arrays["global_step"] = np.array(123456789012, np.int64)
    arrays["empty"] = np.zeros((0, 3), np.float32)
    arrays["weights"] = rng.normal(size=(3, 3, 4, 8)).astype(np.float32)
    arrays |= {f"{PREFIX}/unit_{number}/beta": rng.normal(size=2).astype(np.float32) for number in range(100)}
    return arrays


def save(prefix: Path, variables: list[tf.Variable], step: int | None = None, **options: object) -> None:
    """Give the variables their initial values and save them, without the graph."""
    saver = v1.train.Saver(variables, save_relative_paths=True, **options)
    with v1.Session(config=v1.ConfigProto(device_count={"CPU": 2})) as session:
        session.run(v1.global_variables_initializer())
        saver.save(session, str(prefix), global_step=step, write_meta_graph=False)


def variable(name: str, value: np.ndarray) -> tf.Variable:
    return v1.Variable(value, name=name, use_resource=False)


def main() -> None:
    HERE.mkdir(exist_ok=True)
    with tf.Graph().as_default():
        arrays = mixed()
        text = v1.Variable(["a string"], name="kinds/string", use_resource=False)
        save(HERE / "mixed", [*(variable(*item) for item in arrays.items()), text], 7)

    with tf.Graph().as_default():
        halves = {f"half_{number}": np.arange(5, dtype=np.float32) + number for number in range(2)}
        placed = []
        for number, item in enumerate(halves.items()):
            with tf.device(f"/cpu:{number}"):
                placed.append(variable(*item))
        save(HERE / "shards", placed, 3, sharded=True)

    with tf.Graph().as_default():
        options = {"partitioner": v1.fixed_size_partitioner(2), "use_resource": False}
        v1.get_variable("sliced", initializer=tf.reshape(tf.range(12.0), (4, 3)), **options)
        variable("plain", np.arange(3, dtype=np.int32))
        save(HERE / "sliced", v1.global_variables(), 1)

    with tf.Graph().as_default():
        save(HERE / "v1", [variable("old", np.ones(3, np.float32))], write_version=v1.train.SaverDef.V1)

    with tf.Graph().as_default(), tempfile.TemporaryDirectory() as folder:
        numbers = [variable(name, np.array(number, np.int32)) for number, name in enumerate(BLOCK_NAMES)]
        save(Path(folder) / "blocks", numbers, 1)
        with zipfile.ZipFile(HERE / "blocks.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)

    (HERE / "checkpoint").unlink()  # names the last one saved, which the tests do by themselves
    bits = {name: value.view(np.uint16) if name.endswith("bfloat16") else value for name, value in arrays.items()}
    np.savez_compressed(HERE / "expected.npz", **bits, **halves)


if __name__ == "__main__":
    main()
