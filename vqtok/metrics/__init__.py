"""How good a tokenizer is: pixels, use of the codebook, the quantizer's error."""
