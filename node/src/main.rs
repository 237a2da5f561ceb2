//! The `seawall` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    seawall_node::commands::main()
}
