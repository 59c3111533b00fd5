"""The generator `llm`: a language model says what it knows, the sampler throws the dice."""
