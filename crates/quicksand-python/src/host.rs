//! Questions about this host: QEMU, accelerator, platform; and the check of configurations.
//!
//! Answers are JSON in the words of `python/quicksand/_runtime.py`; what they mean is known to
//! `runtime-locator` and `sandbox`.

use crate::errors;
use host_platform::Arch;
use pyo3::prelude::*;
use runtime_locator::{AcceleratorRequest, DeclaredImage, Search};
use sandbox::{MachineType, SandboxConfig};
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

/// Where Python keeps packages; see `python/quicksand/_locate.py`.
#[derive(Deserialize)]
struct Places {
    site_packages: Vec<PathBuf>,
    qemu_bin_dirs: Vec<PathBuf>,
    image_path: Vec<PathBuf>,
    declared_images: Vec<Declared>,
}

/// What the object of an image's entry point answered.
#[derive(Deserialize)]
struct Declared {
    name: String,
    arch: String,
    kernel: PathBuf,
    initrd: PathBuf,
    chain: Vec<PathBuf>,
}

/// The search that Python's folders and this process's environment describe.
pub fn search(places: &str) -> PyResult<Search> {
    let places: Places = serde_json::from_str(places)
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))?;
    let mut search = Search::from_process(places.site_packages);
    search.qemu_bin_dirs = places.qemu_bin_dirs;
    search.image_path.extend(places.image_path);
    for Declared { name, arch, kernel, initrd, chain } in places.declared_images {
        // Of an architecture that nobody knows, no machine can be made.
        if let Ok(arch) = arch.parse() {
            search.declared_images.push(DeclaredImage { name, arch, kernel, initrd, chain });
        }
    }
    Ok(search)
}

/// Reads a configuration, and gives it back with names in their normal spelling.
#[pyfunction]
pub fn check_config(config: &str) -> PyResult<String> {
    match SandboxConfig::from_json(config) {
        Ok(config) => Ok(config.to_json()),
        Err(error) => Err(errors::raise(&error)),
    }
}

/// Finds QEMU; the answer is JSON.
#[pyfunction]
pub fn find_qemu(arch: Option<&str>, search: &str) -> PyResult<String> {
    let arch = read_arch(arch)?;
    let found = runtime_locator::find_qemu(&self::search(search)?, arch)
        .map_err(|error| errors::raise_locate(&error))?;
    let tried: Vec<String> = found.tried.iter().map(ToString::to_string).collect();
    Ok(json!({
        "qemu_binary": found.system,
        "qemu_img": found.img,
        "firmware_dir": found.firmware_dir,
        "arch": found.guest_arch.qemu_name(),
        "source": found.source.to_string(),
        "tried": tried,
    })
    .to_string())
}

/// What `auto` chooses, and why; the answer is JSON.
#[pyfunction]
pub fn detect_accelerator(py: Python<'_>) -> String {
    // The probe waits for a child process.
    let choice = py.detach(|| {
        let search = Search::from_process(Vec::new());
        runtime_locator::choose_accelerator(
            &search,
            AcceleratorRequest::Auto,
            host_platform::native_arch(),
        )
    });
    json!({
        "accelerator": choice.accelerator.name(),
        "reason": choice.reason,
        "hint": choice.hint(),
        "nested": runtime_locator::is_guest(),
    })
    .to_string()
}

/// QEMU's machine for an architecture.
#[pyfunction]
pub fn machine_type(arch: Option<&str>) -> PyResult<&'static str> {
    Ok(MachineType::for_arch(read_arch(arch)?).name())
}

/// The operating system and native architecture; the answer is JSON.
#[pyfunction]
pub fn host() -> String {
    let host = host_platform::host();
    json!({"os": host.os.to_string(), "arch": host.arch.qemu_name()}).to_string()
}

fn read_arch(arch: Option<&str>) -> PyResult<Arch> {
    match arch {
        None => Ok(host_platform::native_arch()),
        Some(name) => name.parse().map_err(|_| errors::invalid("arch", name, "amd64 or arm64")),
    }
}
