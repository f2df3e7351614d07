//! The thin runtime that loads and runs mlxc packages.
