"""Act II, the people: who judged what, when and how. Imports no torch."""
