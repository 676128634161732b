"""Data: examples from any source in one schema, split by prompt, turned into token ids."""
