//! Legalisation and the writers that print Kernel IR.
