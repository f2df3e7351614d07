//! mlxc's graph passes, fusion, lowering and memory planning.
