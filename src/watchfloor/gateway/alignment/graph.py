"""The sentence encoder as an ONNX file, written from the published weights: bytes in, bytes out.

The weights are all-MiniLM-L6-v2's (a BERT of six layers), as their authors publish them in safetensors; what comes out
is one vector of length 1 a text. Matrices become signed bytes with a scale a column. Two of four products a layer run
in integers, with seven bits, not eight: processors without VNNI add pairs of products in 16 bits, and so never
overflow. The two whose inputs have outliers (behind attention, and behind the activation) run in floats.
Nothing of torch, of the onnx package or of a hub is needed, and the same weights give the same file everywhere.

This only knows the shape of the network and the wire format of ONNX (protocol buffers, a handful of fields).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAYERS: Final = 6
WIDTH: Final = 384
HEADS: Final = 12
_FLOAT, _INT8, _INT64 = 1, 3, 7
_SEVEN_BITS: Final = 63
_EIGHT_BITS: Final = 127
_OPSET: Final = 20
_IR: Final = 10


def read_safetensors(raw: bytes) -> dict[str, Array]:
    """The float32 tensors in ``raw``, by name. Raises ``ValueError`` where it is no such file."""
    if len(raw) < 8:
        raise ValueError("shorter than its header")
    (length,) = struct.unpack_from("<Q", raw)
    if length > len(raw) - 8:
        raise ValueError("its header is cut off")
    tensors: dict[str, Array] = {}
    try:
        for name, about in json.loads(raw[8 : 8 + length]).items():
            if name == "__metadata__" or about["dtype"] != "F32":
                continue
            start, end = about["data_offsets"]
            piece = raw[8 + length + start : 8 + length + end]
            tensors[name] = np.frombuffer(piece, dtype="<f4").reshape(about["shape"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    return tensors


def build(tensors: Mapping[str, Array], *, quantised: bool = True) -> bytes:
    """The network as an ONNX file. ``quantised=False`` keeps floats, for measuring. Raises ``KeyError``."""
    return _Network(tensors, quantised).model()


class _Network:
    """Nodes and constants while they are put together."""

    def __init__(self, tensors: Mapping[str, Array], quantised: bool) -> None:
        self._tensors, self._quantised = tensors, quantised
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def model(self) -> bytes:
        x = self._embed()
        shape = self._constant("heads", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        joined = self._constant("joined", np.array([0, 0, WIDTH], np.int64))
        scale = self._constant("scale", np.array((WIDTH // HEADS) ** -0.5, np.float32))
        for number in range(LAYERS):
            x = self._layer(number, x, shape, joined, scale)
        first = self._constant("tokens", np.array([1], np.int64))
        mean = self._node("ReduceMean", [x, first], "mean", keepdims=0)
        self._node("LpNormalization", [mean], "vector", axis=-1, p=2)
        graph = b"".join(
            [
                *(_field(1, node) for node in self._nodes),
                _text(2, "minilm"),
                *(_field(5, constant) for constant in self._constants),
                _field(11, _value("ids", _INT64, [1, "tokens"])),
                _field(12, _value("vector", _FLOAT, [1, WIDTH])),
            ]
        )
        return b"".join([_number(1, _IR), _text(2, "watchfloor"), _field(7, graph), _field(8, _number(2, _OPSET))])

    # -- the network ----------------------------------------------------------------------------------------------

    def _embed(self) -> str:
        words = self._tensors["embeddings.word_embeddings.weight"]
        if self._quantised:
            bytes_, scales = _quantise(words.T, _EIGHT_BITS)
            rows = self._node("Gather", [self._constant("words", bytes_.T), "ids"], "word_bytes", axis=0)
            grains = self._node("Gather", [self._constant("word_scales", scales[:, None]), "ids"], "grains", axis=0)
            word = self._node("Mul", [self._node("Cast", [rows], "word_floats", to=_FLOAT), grains], "word")
        else:
            word = self._node("Gather", [self._constant("words", words), "ids"], "word", axis=0)
        # Texts come one by one, so every token is real: no mask, and the kind of all tokens is the first.
        places = self._tensors["embeddings.position_embeddings.weight"]
        places = places + self._tensors["embeddings.token_type_embeddings.weight"][0]
        one = self._constant("one", np.array([1], np.int64))
        length = self._node("Slice", [self._node("Shape", ["ids"], "shape"), one, self._two()], "length")
        zero = self._constant("zero", np.array([0], np.int64))
        place = self._node("Slice", [self._constant("places", places), zero, length, zero], "place")
        return self._norm(self._node("Add", [word, place], "embedded"), "embeddings.LayerNorm")

    def _two(self) -> str:
        return self._constant("two", np.array([2], np.int64))

    def _layer(self, number: int, x: str, shape: str, joined: str, scale: str) -> str:
        at, own = f"encoder.layer.{number}.", f"l{number}."
        parts = [self._tensors[f"{at}attention.self.{part}.weight"].T for part in ("query", "key", "value")]
        biases = [self._tensors[f"{at}attention.self.{part}.bias"] for part in ("query", "key", "value")]
        every = self._linear(x, own + "qkv", np.concatenate(parts, axis=1), np.concatenate(biases))
        outputs = [own + part for part in ("q", "k", "v")]
        self._nodes.append(_node("Split", [every], outputs, {"axis": -1, "num_outputs": 3}))
        turned = []
        for name, order in zip(outputs, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True):
            heads = self._node("Reshape", [name, shape], name + ".heads")
            turned.append(self._node("Transpose", [heads], name + ".turned", perm=order))
        query = self._node("Mul", [turned[0], scale], own + "query")
        scores = self._node("MatMul", [query, turned[1]], own + "scores")
        shares = self._node("Softmax", [scores], own + "shares", axis=-1)
        mixed = self._node("MatMul", [shares, turned[2]], own + "mixed")
        back = self._node("Transpose", [mixed], own + "back", perm=[0, 2, 1, 3])
        flat = self._node("Reshape", [back, joined], own + "flat")
        attended = self._dense(flat, at + "attention.output.dense", own + "attended", in_floats=True)
        x = self._norm(self._node("Add", [x, attended], own + "sum"), at + "attention.output.LayerNorm")
        wide = self._node("Gelu", [self._dense(x, at + "intermediate.dense", own + "wide")], own + "gelu")
        narrow = self._dense(wide, at + "output.dense", own + "narrow", in_floats=True)
        return self._norm(self._node("Add", [x, narrow], own + "out"), at + "output.LayerNorm")

    def _dense(self, x: str, name: str, output: str, *, in_floats: bool = False) -> str:
        weight, bias = self._tensors[name + ".weight"].T, self._tensors[name + ".bias"]
        return self._linear(x, output, weight, bias, in_floats=in_floats)

    def _linear(self, x: str, output: str, weight: Array, bias: Array, *, in_floats: bool = False) -> str:
        if not self._quantised:
            product = self._node("MatMul", [x, self._constant(output + ".w", weight)], output + ".product")
        elif in_floats:
            bytes_, scales = _quantise(weight, _EIGHT_BITS)
            floats = self._node("Cast", [self._constant(output + ".w", bytes_)], output + ".floats", to=_FLOAT)
            whole = self._node("Mul", [floats, self._constant(output + ".w_scale", scales)], output + ".whole")
            product = self._node("MatMul", [x, whole], output + ".product")
        else:
            bytes_, scales = _quantise(weight, _SEVEN_BITS)
            quantised = [output + ".x", output + ".x_scale", output + ".x_zero"]
            self._nodes.append(_node("DynamicQuantizeLinear", [x], quantised, {}))
            inputs = [quantised[0], self._constant(output + ".w", bytes_), quantised[2]]
            whole = self._node("MatMulInteger", inputs, output + ".whole")
            floats = self._node("Cast", [whole], output + ".floats", to=_FLOAT)
            scale = self._node("Mul", [quantised[1], self._constant(output + ".w_scale", scales)], output + ".scale")
            product = self._node("Mul", [floats, scale], output + ".product")
        return self._node("Add", [product, self._constant(output + ".b", bias)], output)

    def _norm(self, x: str, name: str) -> str:
        weight = self._constant(name + ".w", self._tensors[name + ".weight"])
        bias = self._constant(name + ".b", self._tensors[name + ".bias"])
        return self._node("LayerNormalization", [x, weight, bias], name, axis=-1, epsilon=1e-12)

    # -- nodes and constants --------------------------------------------------------------------------------------

    def _node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(_node(kind, inputs, [output], attributes))
        return output

    def _constant(self, name: str, value: Array) -> str:
        kind = {"f": _FLOAT, "i": _INT8 if value.dtype.itemsize == 1 else _INT64}[value.dtype.kind]
        raw = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<")).tobytes()
        dims = b"".join(_number(1, size) for size in value.shape)
        self._constants.append(dims + _number(2, kind) + _text(8, name) + _field(9, raw))
        return name


def _quantise(weight: Array, most: int) -> tuple[Array, Array]:
    """Signed bytes and a scale for each column: ``bytes * scales`` is about ``weight``."""
    scales = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12)).astype(np.float32) / np.float32(most)
    return np.rint(weight / scales).astype(np.int8), scales


# -- ONNX on the wire ---------------------------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())


def _node(kind: str, inputs: Sequence[str], outputs: Sequence[str], attributes: Mapping[str, Any]) -> bytes:
    body = [*(_text(1, name) for name in inputs), *(_text(2, name) for name in outputs), _text(4, kind)]
    body += [_field(5, b"".join(_attribute(name, value))) for name, value in attributes.items()]
    return b"".join(body)


def _attribute(name: str, value: Any) -> Iterator[bytes]:
    yield _text(1, name)
    if isinstance(value, float):
        yield _varint(2 << 3 | 5) + struct.pack("<f", value) + _number(20, 1)
    elif isinstance(value, int):
        yield _number(3, value) + _number(20, 2)
    else:
        yield b"".join(_number(8, each) for each in value) + _number(20, 7)


def _value(name: str, kind: int, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(_field(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, dims)))
