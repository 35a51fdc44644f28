//! Makes relocatable bundles of executables and proves where they run
