//! Relocation and audit on real files: ELF made by the host's compiler, Mach-O and PE by zig.

#[cfg(target_os = "linux")]
mod delayed;
mod elf;
mod foreign;
#[cfg(target_os = "linux")]
mod judged;
#[cfg(target_os = "linux")]
mod musl;
mod tools;
