"""Jobs: tables to be made, how they go, and what was made."""
