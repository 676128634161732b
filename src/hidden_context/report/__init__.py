"""What a team looks at: one self-contained HTML file, and figures for papers."""
