"""LLaMA's ``tokenizer.model`` (SentencePiece BPE) -> ``tokenizers.Tokenizer``, as transformers 4.34 converted it.

The published LLM was trained and is run with that conversion: every stretch of text between special tokens gets a
space in front. Later transformers leave this space out where the text starts with one, and version 5 cannot read the
file without a further package, so the conversion is done here, from the pieces and their scores.
"""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE

from .entries import read_bounded
from .errors import file_error

SPACE = "\u2581"  # SentencePiece's mark of a word's start
RESERVED = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2
MODEL_LIMIT = 16 * 2**20  # bytes; LLaMA's has 0.5 MB, the largest vocabularies 4
LONGEST_PIECE = 256  # letters; LLaMA's longest has 27, and each is cut at every place


def read_sentencepiece(path: Path) -> Tokenizer:
    """Without added tokens. ImportError where sentencepiece is missing; RuntimeError or another at a damaged file;
    CheckpointError where it is larger than any."""
    from sentencepiece import SentencePieceProcessor  # only this layout needs it, so the pack asks for none

    again = "Download it again."
    model = SentencePieceProcessor()
    model.LoadFromSerializedProto(read_bounded(path, MODEL_LIMIT, again))
    pieces = [model.id_to_piece(index) for index in range(model.get_piece_size())]
    if max(map(len, pieces), default=0) > LONGEST_PIECE:
        raise file_error(path, f"has a piece of more than {LONGEST_PIECE} letters.", again)
    pieces[: len(RESERVED)] = RESERVED
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    scores = {piece: model.get_score(index) for piece, index in vocabulary.items()}
    bpe = BPE(vocabulary, _merges(vocabulary, scores), unk_token=RESERVED[0], fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in RESERVED])
    return tokenizer


def _merges(vocabulary: dict[str, int], scores: dict[str, float]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, the best-scored piece first."""
    merges = []
    for piece, score in scores.items():
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
        merges += [(score, pair) for pair in sorted(known, key=lambda pair: [vocabulary[half] for half in pair])]
    return [pair for _, pair in sorted(merges, key=lambda merge: merge[0], reverse=True)]
