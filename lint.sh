#!/usr/bin/env bash
# Formatting, style, types and the floors of the architecture; exits non-zero at the first complaint.
set -euo pipefail
cd "$(dirname "$0")"
ruff format --check .
ruff check .
mypy
lint-imports
