"""The kernels on a device, by torch or by Triton; nothing here is loaded before one of them is asked for."""
