"""How a table is distributed, as values that can be read, edited and drawn from."""
