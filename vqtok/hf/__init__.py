"""What diffusers and transformers need to know of vqtok, told to each when it is there."""
