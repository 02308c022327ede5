//! The pages that people read: the table of formats is what the program has, the README is short,
//! links lead somewhere, and nothing speaks of what a reader was never told.
//! `UPDATE_README=1 cargo test` writes the table.

use crate::common::root;
use qmatmul::Activations;
use qmatmul::format::{FORMATS, Format};
use qmatmul::kernel::{KERNELS, Kernel, Operation};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- table: begin (written by tests/fast/readme.rs) -->\n";
const END: &str = "<!-- table: end -->\n";

/// Lines of the README, which has five minutes of its reader.
const README_LINES: usize = 150;

/// Words that pages use of aims which were set somewhere else. "Asked for" is what users do.
const FOREIGN_WORDS: &[&str] = &[
    "asked of",
    "was asked to",
    "is asked to",
    "as asked",
    "owed",
    "owes",
    "the goal",
    "our goal",
    "the target is",
    "target of",
    "required speed",
    "short of the",
    "the line here",
    "milestone",
    "deadline",
    "acceptance",
    "the task",
    "the issue says",
];

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

/// The activations that a kernel multiplies the format by; those of bytes want codes.
fn cell(kernel: &Kernel, format: &Format) -> String {
    if kernel.operation != Operation::Matmul {
        return "yes".into();
    }
    let takes = |a: &&Activations| a.suit_format(format);
    let names: Vec<_> = kernel.activations.iter().filter(takes).map(|a| a.name()).collect();
    if names.is_empty() { "–".into() } else { names.join(" ") }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The pages of a folder of the repository.
fn pages_in(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder of the repository");
    let mut pages: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.sort();
    pages
}

/// All pages that are not about golden data.
fn pages() -> Vec<PathBuf> {
    ["", "docs", "docs/lab", "benches", "shaders"].into_iter().flat_map(pages_in).collect()
}

/// Where the links of a page lead, without those to other sites and to the page itself. Blocks of
/// code have none.
fn links(page: &str) -> Vec<&str> {
    let text = page.split("```").step_by(2);
    let targets = text.flat_map(|text| text.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split(')').next());
    let targets = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    targets.map(|target| target.split('#').next().unwrap_or(target)).collect()
}

#[test]
fn the_table_is_up_to_date() {
    let path = root().join("docs/formats.md");
    let page = read(&path);
    let begin = page.find(BEGIN).expect("the table's begin mark") + BEGIN.len();
    let end = page.find(END).expect("the table's end mark");
    if std::env::var_os("UPDATE_README").is_some() {
        let updated = [&page[..begin], &table(), &page[end..]].concat();
        std::fs::write(path, updated).expect("docs/formats.md is writable");
        return;
    }
    assert_eq!(page[begin..end], table(), "run UPDATE_README=1 cargo test --test fast readme");
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= README_LINES, "{lines} lines, {README_LINES} at most");
}

#[test]
fn the_page_on_browsers_shows_the_example_that_browsers_run() {
    let example = read(&root().join("crates/qmatmul-web/src/embed.rs"));
    let code = &example[example.find("use ").expect("imports")..];
    let page = read(&root().join("docs/web.md"));
    assert!(page.contains(&format!("```rust,ignore\n{code}```")), "docs/web.md is not as embed.rs");
}

#[test]
fn every_link_leads_to_a_file() {
    let mut dead = vec![];
    for page in pages() {
        let folder = page.parent().expect("in a folder");
        let text = read(&page);
        let missing = links(&text).into_iter().filter(|target| !folder.join(target).exists());
        dead.extend(missing.map(|target| format!("{}: {target}", page.display())));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_page_is_in_the_list_of_pages() {
    let index = read(&root().join("docs/README.md"));
    let listed = links(&index);
    let missing: Vec<_> = pages_in("docs")
        .into_iter()
        .filter_map(|page| page.file_name()?.to_str().map(str::to_owned))
        .filter(|name| name != "README.md" && !listed.contains(&&**name))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not list {missing:?}");
}

#[test]
fn no_page_speaks_of_aims_that_its_reader_was_never_told() {
    let mut found = vec![];
    for page in pages() {
        // A line may end in the middle of what is looked for.
        let text = read(&page).to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
        let words = FOREIGN_WORDS.iter().filter(|words| {
            let ends = |end: Option<char>| end.is_none_or(|c| !c.is_alphanumeric());
            text.match_indices(**words).any(|(at, _)| {
                ends(text[..at].chars().next_back()) && ends(text[at + words.len()..].chars().next())
            })
        });
        found.extend(words.map(|words| format!("{}: {words}", page.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// All sources of the library, one after the other.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let text = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false if path.extension().is_some_and(|e| e == "rs") => read(&path),
        false => String::new(),
    };
    paths.map(text).collect()
}

/// The doc comment of a public type.
fn comment<'a>(sources: &'a str, name: &str) -> Option<String> {
    let begins = |line: &str| {
        ["struct", "enum", "type"].iter().any(|kind| {
            let rest = line.strip_prefix(&format!("pub {kind} {name}"));
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let lines: Vec<&'a str> = sources.lines().collect();
    let at = lines.iter().position(|line| begins(line))?;
    let above = lines[..at].iter().rev().take_while(|line| line.starts_with("///") || line.starts_with('#'));
    Some(above.copied().collect::<Vec<_>>().join("\n"))
}

#[test]
fn every_item_of_the_front_door_has_an_example() {
    let sources = sources(&root().join("src"));
    let door = read(&root().join("src/lib.rs"));
    let paths = door.lines().filter_map(|line| line.strip_prefix("pub use ")?.strip_suffix(';'));
    let names = paths.filter_map(|path| path.rsplit_once("::")).flat_map(|(_, names)| {
        names.trim_matches(['{', '}']).split(", ").map(str::to_owned).collect::<Vec<_>>()
    });
    let names: Vec<_> = names.chain(["Model".into(), "OpenOptions".into()]).collect();
    let without: Vec<_> = names
        .iter()
        .filter(|name| !comment(&sources, name).unwrap_or_default().contains("/// ```"))
        .collect();
    assert!(names.len() > 14 && without.is_empty(), "{} items, without an example: {without:?}", names.len());
}

#[test]
fn links_and_code_are_told_apart() {
    let page = "[a](b.md#c) [d](https://e) ```\n[f](g)\n``` [h](#i) ![j](k.svg)";
    assert_eq!(links(page), ["b.md", "k.svg"]);
}
