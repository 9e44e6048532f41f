"""What computes blocks of a kernel: numba and numpy on the CPU, torch anywhere, Triton on a GPU."""
