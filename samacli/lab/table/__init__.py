"""`sama table`: settings × methods × seeds, a row a finished run, and a page made of the rows."""

from samacli.lab.table.description import Entry, Setting, Table, built_in_tables, load_table
from samacli.lab.table.estimate import Left, left
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.plan import Cell, Choice, plan
from samacli.lab.table.render import render
from samacli.lab.table.row import Row
from samacli.lab.table.run import Outcome, run_table
from samacli.lab.table.store import Store

__all__ = [
    "Cell",
    "Choice",
    "Entry",
    "Ledger",
    "Left",
    "Outcome",
    "Row",
    "Setting",
    "Store",
    "Table",
    "built_in_tables",
    "left",
    "load_table",
    "plan",
    "render",
    "run_table",
]
