"""``python -m rmtdeq`` is the command line."""

from rmtdeq.cli import main

raise SystemExit(main())
