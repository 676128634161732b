"""Choice of the next votes: a posterior of each item's shares, and the expected gain of a vote."""
