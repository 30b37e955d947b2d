"""Act II, the judge: a model of what people prefer."""
