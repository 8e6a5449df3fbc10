//! The `spillway` program.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    // Every stream has large buffers of which it uses little; with huge pages it would pay for all
    // of them. Where the kernel doesn't know the call, nothing is lost but memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    spillway::cli::main()
}
