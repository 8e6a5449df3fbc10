//! Tells the linker in which order the functions of a release lie, so that those that are used share pages
//! (docs/decisions/0069).

fn main() {
    const ORDER: &str = "link-order.txt";
    println!("cargo:rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    // The linker that comes with Rust for this target knows the option; another one may not.
    let own_linker =
        std::env::var_os("RUSTC_LINKER").is_none() && std::env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| !flags.contains("link"));
    if is("PROFILE", "release") && is("TARGET", "x86_64-unknown-linux-gnu") && own_linker {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        // Without a warning of functions that don't exist any more.
        for argument in [&format!("--symbol-ordering-file={folder}/{ORDER}"), "--no-warn-symbol-ordering"] {
            println!("cargo:rustc-link-arg-bin=spillway=-Xlinker");
            println!("cargo:rustc-link-arg-bin=spillway={argument}");
        }
    }
}
