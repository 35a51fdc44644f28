//! On macOS an extension module must tell the linker that the interpreter brings Python's symbols,
//! and name the module by where it will be.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
    // Without one the linker writes down the path of the build's own folder.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "macos") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-install_name,@rpath/_native.abi3.so");
    }
}
