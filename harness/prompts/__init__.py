"""Training prompts: where they come from, and the check against test questions."""
