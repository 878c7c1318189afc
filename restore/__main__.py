"""`restore`, and `python -m restore`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the imports below last, Ctrl-C leaves without a traceback

from restore.cli import main

if __name__ == "__main__":
    main()
