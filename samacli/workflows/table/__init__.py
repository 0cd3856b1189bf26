"""`sama table`: settings × methods × seeds, a row a finished run, and a page made of the rows."""

from samacli.workflows.table.description import Entry, Setting, Table, built_in_tables, load_table
from samacli.workflows.table.estimate import Left, left
from samacli.workflows.table.ledger import Ledger
from samacli.workflows.table.plan import Cell, Choice, plan
from samacli.workflows.table.render import render
from samacli.workflows.table.row import Row
from samacli.workflows.table.run import Outcome, run_table
from samacli.workflows.table.store import Store

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
