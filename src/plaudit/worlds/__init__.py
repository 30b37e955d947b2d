"""Small worlds with known preferences, and simulated people for them."""
