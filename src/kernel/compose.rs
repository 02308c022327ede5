//! Composition of a shader: files in a fixed order behind a header of constants, with a map from its lines back to the files.

use super::{Config, Kernel, Operation};
use crate::format::{Book, Format};
use std::fmt::Write;

/// A file of `shaders/`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Path below the repository's root.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! part {
    ($path:literal) => {
        Part { path: concat!("shaders/", $path), text: include_str!(concat!("../../shaders/", $path)) }
    };
}

pub(super) static PARAMS: Part = part!("lib/params.wgsl");
pub(super) static CODES: Part = part!("lib/codes.wgsl");
pub(super) static LOOKUP_MEMORY: Part = part!("lib/lookup_memory.wgsl");
pub(super) static LOOKUP_SHUFFLE: Part = part!("lib/lookup_shuffle.wgsl");
pub(super) static ROWS: Part = part!("lib/rows.wgsl");
pub(super) static REDUCE_SUBGROUP: Part = part!("lib/reduce_subgroup.wgsl");
pub(super) static REDUCE_WORKGROUP: Part = part!("lib/reduce_workgroup.wgsl");
pub(super) static DOT_ROWS_BROADCAST: Part = part!("lib/dot_rows_broadcast.wgsl");
pub(super) static DOT_ROWS_PLAIN: Part = part!("lib/dot_rows_plain.wgsl");
static GRID: Part = part!("lib/grid.wgsl");
static X_SCALAR: Part = part!("lib/x_scalar.wgsl");
static X_VEC4: Part = part!("lib/x_vec4.wgsl");

/// The part that reads activations with `cols` columns: 16 bytes at a time where their rows are aligned.
pub(super) fn activations(cols: usize) -> &'static Part {
    if cols.is_multiple_of(4) { &X_VEC4 } else { &X_SCALAR }
}

/// A composed shader.
#[derive(Clone, Debug)]
pub struct Source {
    /// The WGSL text, entry point `main`.
    pub text: String,
    /// First line (from 1) of each part, and its path.
    parts: Vec<(usize, String)>,
}

impl Source {
    /// The file and line (both from 1) behind a line of the composed text.
    pub fn locate(&self, line: usize) -> (&str, usize) {
        let at = self.parts.partition_point(|(first, _)| *first <= line).saturating_sub(1);
        let (first, path) = &self.parts[at];
        (path, line + 1 - first)
    }

    fn push(&mut self, path: impl Into<String>, text: &str) {
        self.parts.push((self.text.lines().count() + 1, path.into()));
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// The shader of one cell of formats × kernels: constants, parameters, the kernel's library parts, decoder, kernel.
pub fn compose(kernel: &Kernel, config: &Config, format: &Format) -> Source {
    let mut header = format!("// qmatmul: {} of {}\n", kernel.name, format.name);
    let _ = writeln!(header, "const LANES = {}u;", config.workgroup);
    let _ = writeln!(header, "const ZERO_SIGN = {};", kernel.operation != Operation::Matmul);
    for (name, value) in &config.constants {
        let _ = writeln!(header, "const {name} = {value}u;");
    }
    let mut source = Source { text: String::new(), parts: vec![] };
    source.push("header", &header);
    let book = match format.book {
        Book::None => None,
        Book::Sixteen(_) => Some(config.lookup),
        Book::Grid(_) => Some(&GRID),
    };
    for part in [&PARAMS, &CODES].into_iter().chain(book).chain(config.parts.iter().copied()) {
        source.push(part.path, part.text);
    }
    source.push(format!("shaders/decode/{}.wgsl", format.stem), format.shader);
    source.push(format!("shaders/kernel/{}.wgsl", kernel.name), kernel.shader);
    source
}
