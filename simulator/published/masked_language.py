"""What the batches of BERT's pretraining hold: padded tokens, and positions whose words are guessed."""

from __future__ import annotations

from simulator.published.draft import Draft
from simulator.published.frameworks import framework_of
from simulator.published.row import Row

FILLED = {128: 0.83, 512: 0.52}
"""Longest sequence, tokens -> share of the tokens of English Wikipedia and BooksCorpus that are no padding to it
("the percentage of padding among all the input tokens is 17% and 48%": openreview.net 3nzKUh9a4M, abstract)."""

BINS = {512: 64}
"""Longest sequence -> tokens of a bin: NVIDIA DeepLearningExamples, PyTorch/LanguageModeling/BERT,
scripts/run_pretraining.sh: phase1/unbinned, phase2/bin_size_64. A batch comes from one bin and is padded to its longest
sequence (NVIDIA/LDDL, README and lddl/torch/bert.py)."""

MASKED = 0.15
"""Share of the tokens that are guessed (LDDL: mlm_probability; arXiv 1810.04805, section 3.1)."""


def put_lengths(model: Draft, row: Row) -> None:
    """Give a model the length that batches are padded to on average, and a head over the guessed positions alone."""
    longest = model.data.get("sequence_length")
    if not framework_of(row).bins_lengths or longest not in FILLED:
        return
    filled = FILLED[longest] * longest
    bin_size = BINS.get(longest)
    if bin_size:
        # Lengths are spread over a bin, so that its longest is half a bin above the mean.
        padded = round(filled + bin_size / 2)
        why = f"mean: {FILLED[longest]:.0%} of {longest} tokens, and half of a bin of {bin_size} that batches come from"
        model.put("sequence_length", padded, why)
    why = f"{MASKED:.0%} of {filled:.0f} tokens that are no padding"
    model.put("predictions_per_sequence", round(MASKED * filled), why)
