"""Scripts that use the library on videos, and their shared modules. `examples/README.md` lists them."""
