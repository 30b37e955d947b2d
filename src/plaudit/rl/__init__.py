"""Act III: PPO against a reward, on a KL leash."""
