//! Trials of our programs on hosts that this one is not: fresh roots of distributions, Linux on Arm under an
//! emulator of programs, Windows under Wine, and the compiler's word for what can be compiled and not be run.
//!
//! It must not know how images are made: a trial that boots one is given the folder that it lies in.

pub mod arm_host;
pub mod cross;
pub mod fresh;
