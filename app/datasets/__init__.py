"""Uploaded tables: receiving, reading, keeping and splitting them."""
