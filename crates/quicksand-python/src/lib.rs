//! The native module of the quicksand Python package
