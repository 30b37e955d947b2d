"""Act I: supervised fine-tuning on demonstrations."""
