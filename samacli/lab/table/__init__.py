"""`sama table`: settings × methods × seeds, a row a finished run, and a page made of the rows."""
