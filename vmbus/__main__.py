"""`python -m vmbus` is the `vmbus` command."""

from vmbus.cli import run

if __name__ == "__main__":
    run()
