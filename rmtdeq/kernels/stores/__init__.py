"""Where the entries of a kernel are kept, and multiplied with vectors: one protocol, a module for each place."""
