//! Has the linker put the functions of a request side by side: `tools/layout/order.py` says why, and makes the list. What the
//! compiler is told (`watch.py` there) reaches it by another way, of which Cargo hears nothing: here it does.
use std::{env, path::Path};

fn main() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/layout/functions.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", list.display());
    println!("cargo:rerun-if-changed={}", list.with_file_name("sluice.profdata").display());
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    // The linkers that Rust comes with and those of GNU know such lists; another one may not.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let other =
        env::var_os("RUSTC_LINKER").is_some() || flags.contains("linker") || flags.contains("fuse-ld");
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && !other && list.exists() {
        println!("cargo:rustc-link-arg-bin=sluice=-T");
        println!("cargo:rustc-link-arg-bin=sluice={}", list.display());
    }
}
