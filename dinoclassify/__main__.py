"""`python -m dinoclassify` is the `dinoclassify` command."""

from dinoclassify.cli import main

if __name__ == "__main__":
    main()
