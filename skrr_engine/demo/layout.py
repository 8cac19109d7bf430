"""Where the shipped weights lie, and the shape of the small encoder."""

from pathlib import Path

__all__ = ["AUTOENCODER", "DENOISER", "ENCODER", "T5_SHAPE", "TOKENIZER", "WEIGHTS"]

WEIGHTS = Path(__file__).parent / "weights"
ENCODER, TOKENIZER = "encoder.safetensors", "spiece.model"
DENOISER, AUTOENCODER = "denoiser.safetensors", "autoencoder.safetensors"
# T5-XXL's depth and proportions (a gated feed-forward 2.5 widths wide), so that sparsities compare with the
# paper's; the last rows of the vocabulary are the sentinels of the pre-training.
T5_SHAPE = {"d_model": 128, "d_kv": 32, "num_heads": 4, "d_ff": 320, "num_layers": 24, "vocab_size": 768}
