"""`python -m furlough` is the `furlough` command."""

from furlough.cli.entry import main

if __name__ == "__main__":
    main()
