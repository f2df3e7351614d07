"""llama.cpp on the whole model of group F: the 1B shape with random weights in Q4_0.

Q4_0 has a scale for 32 weights where mlxc's suite has a scale and a bias for 64: 4.5 bits a weight both. llama.cpp
rounds activations to 8 bits, so its products are of other arithmetic.
"""

import statistics
import tempfile
import time
from pathlib import Path

from libraries import Peer

HIDDEN, INNER, LAYERS, HEADS, SHARED, HEAD, VOCABULARY = 2048, 8192, 16, 32, 8, 64, 128256
CONTEXT, STEPS, REPEAT = 1024, 64, 5


def tensors():
    """Names and shapes of the quantised matrices."""
    yield "token_embd", (VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        for name, rows, columns in [
            ("attn_q", HEADS * HEAD, HIDDEN),
            ("attn_k", SHARED * HEAD, HIDDEN),
            ("attn_v", SHARED * HEAD, HIDDEN),
            ("attn_output", HIDDEN, HEADS * HEAD),
            ("ffn_gate", INNER, HIDDEN),
            ("ffn_up", INNER, HIDDEN),
            ("ffn_down", HIDDEN, INNER),
        ]:
            yield f"blk.{i}.{name}", (rows, columns)


def write(path):
    """Writes the model."""
    import gguf
    import numpy as np

    random = np.random.default_rng(1)
    out = gguf.GGUFWriter(path, "llama")
    out.add_context_length(2048)
    out.add_embedding_length(HIDDEN)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(SHARED)
    out.add_key_length(HEAD)
    out.add_value_length(HEAD)
    out.add_rope_dimension_count(HEAD)
    out.add_rope_freq_base(500_000.0)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(VOCABULARY)
    out.add_tokenizer_model("none")
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    for name, (rows, columns) in tensors():
        # A block: an f16 scale, then the codes of 32 weights.
        blocks = random.integers(0, 256, (rows, columns // 32, 18), dtype=np.uint8)
        blocks[:, :, :2] = np.frombuffer(np.float16(0.2 * columns**-0.5).tobytes(), np.uint8)
        out.add_tensor(f"{name}.weight", blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    for name in ["output_norm", *(f"blk.{i}.{n}_norm" for i in range(LAYERS) for n in ("attn", "ffn"))]:
        out.add_tensor(f"{name}.weight", np.ones(HIDDEN, np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


class LlamaCpp(Peer):
    modules = ("gguf", "llama_cpp")
    groups = "F"

    def __init__(self, threads):
        self.threads = threads

    def model(self):
        """Names of the steps, and functions that measure them in seconds."""
        import llama_cpp

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write(path)
            n = dict(n_threads=self.threads, n_threads_batch=self.threads, n_batch=512, n_ubatch=512)
            llama = llama_cpp.Llama(str(path), n_ctx=CONTEXT, verbose=False, **n)

            def seconds(tokens):
                start = time.perf_counter()
                llama.eval(tokens)
                return time.perf_counter() - start

            def prompt(length):
                llama.reset()
                return seconds([(i * 7919) % VOCABULARY for i in range(length)])

            def decode():
                prompt(128)
                return statistics.median(seconds([i]) for i in range(STEPS))

            for length in (128, 512):
                prompt(length)
                name = f"1B shape, 4 bits group 64, prefill {length}"
                yield name, lambda: statistics.median(prompt(length) for _ in range(REPEAT))
            yield "1B shape, 4 bits group 64, decode at 128", decode
