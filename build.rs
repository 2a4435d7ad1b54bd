//! Has the linker put the functions of a request side by side: `tools/layout/order.py` says why, and makes the list. What the
//! compiler is told (`watch.py` there) reaches it by another way, of which Cargo hears nothing: here it does.
use std::{env, path::Path, process::Command};

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
        if env::var("HOST") == env::var("TARGET") && glibc_knows_short_addresses() {
            println!("cargo:rustc-link-arg-bin=sluice=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// Whether the program that will be built can have its table of addresses in the form that takes a hundredth of the room
/// (DT_RELR, generic ABI), which is memory that an idle gateway has, too. glibc reads it since 2.36.
fn glibc_knows_short_addresses() -> bool {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = said.ok().and_then(|said| String::from_utf8(said.stdout).ok()).unwrap_or_default();
    let version = said.trim().strip_prefix("glibc ").and_then(|version| version.split_once('.'));
    version.is_some_and(|(major, minor)| {
        let number = |part: &str| part.split('.').next().and_then(|part| part.parse::<u32>().ok());
        (number(major), number(minor)) >= (Some(2), Some(36))
    })
}
