"""Scoring on a Ray cluster: the session, what its workers do, and the windows in between."""
