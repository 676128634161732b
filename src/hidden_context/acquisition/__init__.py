"""Which votes to ask for next: a posterior of each item's shares, and what a vote would tell."""
