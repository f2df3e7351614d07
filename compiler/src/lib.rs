//! An ahead-of-time graph compiler and kernel fuser for MLX-style model code.
