"""What a table is declared to be: schemas, their expression language, checks, and how tables are held."""
