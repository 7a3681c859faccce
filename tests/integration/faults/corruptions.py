"""Ways in which an answer to an inference request can be wrong: each changes an answer in place and returns it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

Corruption = Callable[[Any, Random], Any]


def _edit(answer: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Change the arrays of all outputs; shapes follow."""
    for index, output in enumerate(answer.outputs):
        values = np.frombuffer(answer.raw_output_contents[index], np.float32).reshape(list(output.shape))
        values = np.ascontiguousarray(change(values.copy()), np.float32)
        output.shape[:] = values.shape
        answer.raw_output_contents[index] = values.tobytes()
    return answer


def _one(answer: Any, random: Random) -> int:
    return random.randrange(len(answer.outputs))


def short_buffer(answer: Any, random: Random) -> Any:
    index = _one(answer, random)
    content = answer.raw_output_contents[index]
    answer.raw_output_contents[index] = content[: random.randrange(len(content))]
    return answer


def long_buffer(answer: Any, random: Random) -> Any:
    answer.raw_output_contents[_one(answer, random)] += random.randbytes(random.randint(1, 16))
    return answer


def no_buffers(answer: Any, random: Random) -> Any:
    del answer.raw_output_contents[:]
    return answer


def one_buffer_less(answer: Any, random: Random) -> Any:
    del answer.raw_output_contents[_one(answer, random)]
    return answer


def missing_rows(answer: Any, random: Random) -> Any:
    most = answer.outputs[0].shape[0]
    left = random.randrange(most)
    return _edit(answer, lambda values: values[:left])


def one_row_less(answer: Any, random: Random) -> Any:
    row = random.randrange(answer.outputs[0].shape[0])
    return _edit(answer, lambda values: np.delete(values, row, axis=0))


def extra_rows(answer: Any, random: Random) -> Any:
    more = random.randint(1, 5)
    return _edit(answer, lambda values: np.vstack([values, values[:1].repeat(more, axis=0)]))


def reversed_rows(answer: Any, random: Random) -> Any:
    return _edit(answer, lambda values: values[::-1])


def rolled_rows(answer: Any, random: Random) -> Any:
    by = random.randrange(1, answer.outputs[0].shape[0])
    return _edit(answer, lambda values: np.roll(values, by, axis=0))


def shuffled_rows(answer: Any, random: Random) -> Any:
    rows = list(range(answer.outputs[0].shape[0]))
    while rows[0] == 0 and rows[-1] == len(rows) - 1:  # else only rows between the known ones may have moved
        random.shuffle(rows)
    return _edit(answer, lambda values: values[rows])


def other_request(answer: Any, random: Random) -> Any:
    """The answer to somebody else's patches: right in its form."""
    numbers = np.random.default_rng(random.getrandbits(32))
    return _edit(answer, lambda values: numbers.uniform(0, 1, values.shape).astype(np.float32))


def zeros(answer: Any, random: Random) -> Any:
    """A buffer that was never written to."""
    return _edit(answer, np.zeros_like)


def not_finite(answer: Any, random: Random) -> Any:
    index, bad = _one(answer, random), random.choice([np.nan, np.inf, -np.inf])
    values = np.frombuffer(answer.raw_output_contents[index], np.float32).copy()
    values[random.randrange(len(values))] = bad
    answer.raw_output_contents[index] = values.tobytes()
    return answer


def no_score(answer: Any, random: Random) -> Any:
    """A number that no softmax or sigmoid gives, anywhere."""
    index, bad = _one(answer, random), random.choice([-0.5, 1.5, 1e30, -1e-2])
    values = np.frombuffer(answer.raw_output_contents[index], np.float32).copy()
    values[random.randrange(len(values))] = bad
    answer.raw_output_contents[index] = values.tobytes()
    return answer


def half_precision(answer: Any, random: Random) -> Any:
    """Scores that are not what FP32 gives."""
    return _edit(answer, lambda values: values.astype(np.float16).astype(np.float32) + np.float32(1e-3))


def missing_output(answer: Any, random: Random) -> Any:
    index = _one(answer, random)
    del answer.outputs[index]
    del answer.raw_output_contents[index]
    return answer


def no_outputs(answer: Any, random: Random) -> Any:
    del answer.outputs[:]
    del answer.raw_output_contents[:]
    return answer


def output_twice(answer: Any, random: Random) -> Any:
    index = _one(answer, random)
    answer.outputs.add().CopyFrom(answer.outputs[index])
    answer.raw_output_contents.append(answer.raw_output_contents[index])
    return answer


def other_output_name(answer: Any, random: Random) -> Any:
    answer.outputs[_one(answer, random)].name = random.choice(["", "output", "main_input"])
    return answer


def swapped_names(answer: Any, random: Random) -> Any:
    first, second = answer.outputs
    first.name, second.name = second.name, first.name
    return answer


def swapped_buffers(answer: Any, random: Random) -> Any:
    first, second = answer.raw_output_contents
    answer.raw_output_contents[:] = [second, first]
    return answer


def swapped_columns(answer: Any, random: Random) -> Any:
    order = random.choice([[1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
    return _edit(answer, lambda values: values[:, order] if values.shape[1] == 3 else values)


def column_major(answer: Any, random: Random) -> Any:
    """The right shape over a buffer that was written column by column."""
    return _edit(answer, lambda values: np.asfortranarray(values).ravel("K").reshape(values.shape))


def other_shape(answer: Any, random: Random) -> Any:
    """A shape that the buffer does not have, or one of as many elements."""
    output = answer.outputs[_one(answer, random)]
    rows, columns = output.shape
    shapes = [
        [columns, rows] if columns != rows else [rows * columns],
        [rows * columns],
        [1, rows, columns],
        [rows, columns, 1],
        [rows, columns + 1],
        [rows, -1],
        [-1, columns],
        [rows, 0],
        [],
        [2**62, columns],
        [-rows, -columns],
    ]
    output.shape[:] = random.choice(shapes)
    return answer


def other_type(answer: Any, random: Random) -> Any:
    """Another type, with a buffer that fits it or one that does not."""
    index = _one(answer, random)
    name, dtype = random.choice(
        [
            ("FP64", np.float64),
            ("FP16", np.float16),
            ("INT32", np.int32),
            ("INT64", np.int64),
            ("BOOL", np.bool_),
            ("BYTES", None),
            ("BF16", None),
            ("FP33", None),
            ("", None),
        ]
    )
    answer.outputs[index].datatype = name
    if dtype is not None and random.random() < 0.5:
        values = np.frombuffer(answer.raw_output_contents[index], np.float32)
        answer.raw_output_contents[index] = values.astype(dtype).tobytes()
    return answer


def typed_contents(answer: Any, random: Random) -> Any:
    """Contents of the other form that the protocol has, of the wrong length or order."""
    index = _one(answer, random)
    values = np.frombuffer(answer.raw_output_contents[index], np.float32)
    wrong = random.choice([values[:-1], np.append(values, 0.5), values[::-1]])
    answer.outputs[index].contents.fp32_contents.extend(wrong.tolist())
    return answer


CORRUPTIONS: tuple[Corruption, ...] = (
    short_buffer,
    long_buffer,
    no_buffers,
    one_buffer_less,
    missing_rows,
    one_row_less,
    extra_rows,
    reversed_rows,
    rolled_rows,
    shuffled_rows,
    other_request,
    zeros,
    not_finite,
    no_score,
    half_precision,
    missing_output,
    no_outputs,
    output_twice,
    other_output_name,
    swapped_names,
    swapped_buffers,
    swapped_columns,
    column_major,
    other_shape,
    other_type,
    typed_contents,
)
