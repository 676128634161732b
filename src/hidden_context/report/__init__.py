"""Reports for a team: one self-contained HTML file, and figures for papers."""
