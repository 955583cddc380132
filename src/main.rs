//! The `tidegate` command. Everything is in the library.

use std::process::ExitCode;

use tidegate::plugin::compiler;

fn main() -> ExitCode {
    // Not a command for people: the daemon starts its own program to compile a plugin, and limits come before anything else there.
    if std::env::args_os().nth(1).is_some_and(|command| command == compiler::COMMAND) {
        return compiler::compile_plugin();
    }
    tidegate::cli::main()
}
