"""Text to tokens and back: file formats, chat templates, splits by prompt, batching."""
