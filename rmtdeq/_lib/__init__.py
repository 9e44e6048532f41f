"""What every room uses: checks, errors, files, threads, progress, and solvers."""
