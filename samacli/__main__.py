"""`sama`, or `python -m samacli`: the commands, and those of the laboratory beside them."""

from samacli.cli.main import app, main
from samacli.lab.commands import bench, table

app.command(no_args_is_help=False)(bench.bench)
app.command(no_args_is_help=False)(table.table)

if __name__ == "__main__":
    main()
