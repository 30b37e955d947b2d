"""What a network looks like: loading, trunk and parts, heads, generation, checkpoints."""
