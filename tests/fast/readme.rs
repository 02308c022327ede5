//! The README's table is what the program has: it is made here and compared.
//! `UPDATE_README=1 cargo test` writes it.

use qmatmul::Activations;
use qmatmul::format::{FORMATS, Format};
use qmatmul::kernel::{KERNELS, Kernel, Operation};
use std::fmt::Write;

const BEGIN: &str = "<!-- table: begin (written by tests/fast/readme.rs) -->\n";
const END: &str = "<!-- table: end -->\n";

fn table() -> String {
    let kernels: Vec<_> = KERNELS.iter().filter(|k| is_asked_for(k)).collect();
    let names: Vec<_> = kernels.iter().map(|k| k.name).collect();
    let mut table = format!("| format | GGUF type | bits per weight | encode | {} |\n", names.join(" | "));
    let _ = writeln!(table, "|---|--:|--:|---|{}", "---|".repeat(names.len()));
    for format in FORMATS {
        let id = format.gguf_type.map_or("–".to_owned(), |id| id.to_string());
        let encode = if format.has_encoder() { "yes" } else { "no" };
        let cells: String = kernels.iter().map(|k| format!(" {} |", cell(k, format))).collect();
        let _ =
            writeln!(table, "| {} | {id} | {} | {encode} |{cells}", format.name, format.bits_per_weight());
    }
    table
}

/// What users ask for, and not the steps on the way.
fn is_asked_for(kernel: &Kernel) -> bool {
    matches!(kernel.operation, Operation::Dequantize | Operation::GetRows | Operation::Matmul)
}

/// The activations that a kernel multiplies the format by; 8-bit ones want codes.
fn cell(kernel: &Kernel, format: &Format) -> String {
    if kernel.operation != Operation::Matmul {
        return "yes".into();
    }
    let takes = |a: &&Activations| **a != Activations::Q8 || format.has_integers();
    let names: Vec<_> = kernel.activations.iter().filter(takes).map(|a| a.name()).collect();
    if names.is_empty() { "–".into() } else { names.join(" ") }
}

#[test]
fn the_table_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("README.md");
    let begin = readme.find(BEGIN).expect("the table's begin mark") + BEGIN.len();
    let end = readme.find(END).expect("the table's end mark");
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&readme[..begin], &table(), &readme[end..]].concat();
        std::fs::write(path, updated).expect("README.md is writable");
        return;
    }
    assert_eq!(readme[begin..end], table(), "run UPDATE_README=1 cargo test --test fast readme");
}
