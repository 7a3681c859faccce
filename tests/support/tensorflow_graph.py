"""Builds the published network in TensorFlow; run as a program, in a process of its own.

``python tensorflow_graph.py FOLDER`` writes ``graph.pb`` (a frozen graph under the names that LArSoft uses, with
random weights) and ``scores.npy``, what TensorFlow makes of the patches in ``patches.npy``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

OUTPUTS = ("em_trk_none_netout/Softmax", "michel_netout/Sigmoid")
FEATURES = 44 * 44 * 48


def weighted(name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[tf.Variable, tf.Variable]:
    scale = np.sqrt(2 / np.prod(shape[:-1]))
    kernel = (rng.standard_normal(shape) * scale).astype(np.float32)
    bias = rng.uniform(-0.05, 0.05, shape[-1]).astype(np.float32)
    return tf.Variable(kernel, name=f"{name}/kernel"), tf.Variable(bias, name=f"{name}/bias")


def build(folder: Path) -> None:
    rng = np.random.default_rng(3)
    patches = np.load(folder / "patches.npy")
    with tf.Graph().as_default() as graph, tf.Session() as session:
        image = tf.placeholder(tf.float32, [None, 48, 48, 1], name="main_input")
        kernel, bias = weighted("conv1", rng, (5, 5, 1, 48))
        values = tf.nn.conv2d(image, kernel, strides=[1, 1, 1, 1], padding="VALID", name="conv1/convolution")
        values = tf.nn.relu(tf.nn.bias_add(values, bias), name="conv1/Relu")
        values = tf.reshape(values, [-1, FEATURES], name="flatten_1/Reshape")

        def dense(name: str, source: tf.Tensor, width: int) -> tf.Tensor:
            kernel, bias = weighted(name, rng, (source.shape[1], width))
            return tf.nn.bias_add(
                tf.matmul(source, kernel, name=f"{name}/MatMul"), bias, name=f"{name}/BiasAdd"
            )

        for name, width in (("dense_1", 128), ("dense_2", 32)):
            values = tf.nn.relu(dense(name, values, width), name=f"{name}/Relu")
        tf.nn.softmax(dense("em_trk_none_netout", values, 3), name=OUTPUTS[0])
        tf.nn.sigmoid(dense("michel_netout", values, 1), name=OUTPUTS[1])
        session.run(tf.global_variables_initializer())
        scores = session.run([f"{name}:0" for name in OUTPUTS], {"main_input:0": patches[..., None]})
        frozen = tf.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), list(OUTPUTS))
    (folder / "graph.pb").write_bytes(frozen.SerializeToString())
    np.save(folder / "scores.npy", np.concatenate(scores, axis=1))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
