"""`python -m minirq`: the same as the `minirq` command."""

from minirq.cli.main import main

if __name__ == "__main__":
    main()
