"""`python -m lrpilot_controller` is the `lrpilot` command."""

from lrpilot_controller.cli import main

if __name__ == "__main__":
    main()
