"""Scripts that use the library on videos, and what they share; `examples/README.md` lists them."""
