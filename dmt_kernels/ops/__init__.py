"""One folder per operator: op.py (public function, schema, autograd), reference.py (the meaning), triton_kernels.py."""
