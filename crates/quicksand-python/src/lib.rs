//! The native module of the quicksand Python package: thin glue over the crates `sandbox` and
//! `wheel-installer`.
//!
//! Owns the passage between Python and Rust, in both directions; must not know QEMU, images or the
//! agent. `python/quicksand/_native.pyi` is its interface.

mod background;
mod desktop;
mod errors;
mod files;
mod host;
mod install;
mod log;
mod machine;
mod operation;
mod owned;
mod saves;
mod sessions;
mod text;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        desktop::Desktop,
        host::{check_config, detect_accelerator, find_qemu, host, machine_type},
        install::install,
        log::set_log_level,
        machine::{Machine, shutdown},
        operation::Operation,
        saves::{export_save, import_save, list_saves, remove_save, validate_save},
        sessions::{Input, Session},
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::log::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
