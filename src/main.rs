//! The `tidegate` command. Everything is in the library.

use std::process::ExitCode;

use tidegate::plugin::compiler;

fn main() -> ExitCode {
    // Not a command for people: the daemon starts its own program to compile a plugin, and limits come before anything else there.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == compiler::COMMAND) {
        return compiler::compile_plugin(arguments.next().and_then(|bytes| bytes.to_str()?.parse().ok()));
    }
    tidegate::cli::main()
}
