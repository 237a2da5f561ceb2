//! The `seawall` program.

use std::process::ExitCode;

/// See `docs/adr/0014-the-program-brings-its-allocator.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    seawall_node::commands::main()
}
