"""Storage: files, tables and rows, read line by line and written whole or not at all."""
