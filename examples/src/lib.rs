//! Small programs that use mlxc as a library.
