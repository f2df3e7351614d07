//! Differential, property and golden tests of mlxc.
