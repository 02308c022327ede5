//! The README's table is what the program has: it is made here and compared. `UPDATE_README=1 cargo test` writes it.

use qmatmul::format::FORMATS;
use qmatmul::kernel::KERNELS;
use std::fmt::Write;

const BEGIN: &str = "<!-- table: begin (written by tests/readme.rs) -->\n";
const END: &str = "<!-- table: end -->\n";

fn table() -> String {
    let names: Vec<_> = KERNELS.iter().map(|k| k.name).collect();
    let mut table = format!("| format | GGUF type | bits per weight | encode | {} |\n", names.join(" | "));
    let _ = writeln!(table, "|---|--:|--:|---|{}", "---|".repeat(names.len()));
    for format in FORMATS {
        let id = format.gguf_type.map_or("–".to_owned(), |id| id.to_string());
        let encode = if format.encode.is_some() { "yes" } else { "no" };
        let cells = " GPU + CPU |".repeat(names.len());
        let _ =
            writeln!(table, "| {} | {id} | {} | {encode} |{cells}", format.name, format.bits_per_weight());
    }
    table
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
    assert_eq!(readme[begin..end], table(), "run UPDATE_README=1 cargo test --test readme");
}
