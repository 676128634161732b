"""The page: template, styles and scripts."""
