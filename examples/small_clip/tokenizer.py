"""Writes CLIP's tokenizer with fewer merges as files that `open_clip.get_tokenizer("local-dir:...")` reads.

open_clip's own `SimpleTokenizer` finds a trimmed vocabulary only by a path relative to the current directory; the
files of a fast Hugging Face tokenizer are found beside the weights, wherever the folder lies.
"""

import gzip
import json
import tempfile
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, default_bpe
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

START, END = "<start_of_text>", "<end_of_text>"
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def trimmed_tokenizer(merges: int, context_length: int) -> SimpleTokenizer:
    """open_clip's tokenizer with CLIP's first merges only.

    Args:
        merges: How many; the vocabulary has 514 entries more.
        context_length: Ids for each text.
    """
    with gzip.open(default_bpe()) as file:
        lines = file.read().split(b"\n")[: merges + 1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bpe.txt.gz"
        path.write_bytes(gzip.compress(b"\n".join(lines)))
        return SimpleTokenizer(str(path), context_length=context_length)


def save_fast_tokenizer(tokenizer: SimpleTokenizer, folder: Path) -> None:
    """Writes `tokenizer.json` and `tokenizer_config.json`, which yield the same ids up to the end token.

    open_clip pads with id 0, which is also the first byte of "!!": a special token of that id would be cut out of
    texts. So these pad with the end token, as CLIP's tokenizers on the Hub do; CLIP pools the first.
    """
    fast = Tokenizer(BPE(tokenizer.encoder, list(tokenizer.bpe_ranks), end_of_word_suffix="</w>"))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.add_special_tokens([START, END])
    fast.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, tokenizer.sot_token_id), (END, tokenizer.eot_token_id)],
    )
    fast.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "padding_side": "right",
        "truncation_side": "right",
        "model_max_length": tokenizer.context_length,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
