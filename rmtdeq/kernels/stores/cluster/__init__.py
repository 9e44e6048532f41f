"""Kernels on the workers of a Dask cluster; the engine is Dask's, what a worker does to a tile is ours."""
