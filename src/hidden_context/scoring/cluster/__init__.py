"""Scoring on a Ray cluster: the session, its workers, and the windows of rows between them."""
