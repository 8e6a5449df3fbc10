//! The `spillway` program.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> std::process::ExitCode {
    // Every stream has large buffers and uses little of them; huge pages would cost the memory of all of them. A kernel
    // that doesn't know the call only uses more memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    spillway::cli::main()
}
