//! The `qmatmul` command: parses and dispatches; the verbs are in [`qmatmul::cli`].

fn main() -> std::process::ExitCode {
    qmatmul::cli::main()
}
