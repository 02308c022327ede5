//! Composition of a shader: files in a fixed order behind a header of constants, with a map from its lines back to the files.

use crate::format::{Codebook, Layout};
use crate::kernel::types::{Activations, Caps, Kernel, KernelConfig, Operation, Problem};
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
pub(super) static LOOKUP_BYTES: Part = part!("lib/lookup_bytes.wgsl");
pub(super) static LOOKUP_SHUFFLE: Part = part!("lib/lookup_shuffle.wgsl");
pub(super) static ROWS: Part = part!("lib/rows.wgsl");
pub(super) static REDUCE_SUBGROUP: Part = part!("lib/reduce_subgroup.wgsl");
pub(super) static REDUCE_WORKGROUP: Part = part!("lib/reduce_workgroup.wgsl");
pub(super) static DOT_ROWS_BROADCAST: Part = part!("lib/dot_rows_broadcast.wgsl");
pub(super) static DOT_ROWS_PLAIN: Part = part!("lib/dot_rows_plain.wgsl");
pub(super) static SUMS_UNROLLED: Part = part!("lib/sums_unrolled.wgsl");
pub(super) static SUMS_IN_TURN: Part = part!("lib/sums_in_turn.wgsl");
pub(super) static COOP_8: Part = part!("lib/coop_8.wgsl");
pub(super) static COOP_16: Part = part!("lib/coop_16.wgsl");
pub(super) static WORDS_32: Part = part!("lib/words_32.wgsl");
pub(super) static WORDS_64: Part = part!("lib/words_64.wgsl");
pub(super) static DOT_ROWS_CODES: Part = part!("lib/dot_rows_codes.wgsl");
/// What decoders have of their own where words belong to several chunks, and what stands in where they have not.
pub(super) static SHARED_NONE: Part = part!("lib/shared_none.wgsl");
pub(super) static CODES_ALONE: Part = part!("lib/codes_alone.wgsl");
static X_SHARE_32: Part = part!("lib/x_share_32.wgsl");
static X_SHARE_64: Part = part!("lib/x_share_64.wgsl");
static X_QUADS: Part = part!("lib/x_quads.wgsl");
static QUADS: Part = part!("lib/quads.wgsl");
static LOOKUP: Part = part!("lib/lookup.wgsl");
static GRID: Part = part!("lib/grid.wgsl");
static TILE: Part = part!("lib/tile.wgsl");
static COLUMNS_PLAIN: Part = part!("lib/columns_plain.wgsl");
static COLUMNS_EXPERTS: Part = part!("lib/columns_experts.wgsl");
static CHUNK_F32: Part = part!("lib/chunk_f32.wgsl");
static CHUNK_DIRECT: Part = part!("lib/chunk_direct.wgsl");
static CHUNK_STAGED: Part = part!("lib/chunk_staged.wgsl");
static CHUNK_Q8: Part = part!("lib/chunk_q8.wgsl");
static WEIGHTS_GATHERED: Part = part!("lib/weights_gathered.wgsl");
static WEIGHTS_PLAIN: Part = part!("lib/weights_plain.wgsl");
pub(super) static INT8: Part = part!("lib/int8.wgsl");
pub(super) static LARGEST: Part = part!("lib/largest.wgsl");
pub(super) static HALVES: Part = part!("lib/halves.wgsl");
static DOT_BYTES_PACKED: Part = part!("lib/dot_bytes_packed.wgsl");
static DOT_BYTES_PLAIN: Part = part!("lib/dot_bytes_plain.wgsl");
static X_F16: Part = part!("lib/x_f16.wgsl");
static X_Q8: Part = part!("lib/x_q8.wgsl");
static X_SCALAR: Part = part!("lib/x_scalar.wgsl");
static X_VEC4: Part = part!("lib/x_vec4.wgsl");

/// The parts that read activations: f32 16 bytes at a time where their columns are aligned; bytes come with their product.
pub(super) fn x(caps: &Caps, request: &Problem) -> Vec<&'static Part> {
    match request.activations {
        Activations::F32 if request.cols.is_multiple_of(4) => vec![&X_VEC4],
        Activations::F32 => vec![&X_SCALAR],
        Activations::F16 => vec![&X_F16],
        Activations::Q8 | Activations::Int8(_) if caps.int_dot => vec![&DOT_BYTES_PACKED, &X_Q8],
        Activations::Q8 | Activations::Int8(_) => vec![&DOT_BYTES_PLAIN, &X_Q8],
    }
}

/// The parts that multiply 32 weights by 32 activations, which are `staged` in workgroup memory or not.
pub(super) fn chunks(caps: &Caps, request: &Problem, staged: bool) -> Vec<&'static Part> {
    let mut parts = x(caps, request);
    match request.activations {
        Activations::Q8 | Activations::Int8(_) => parts.push(&CHUNK_Q8),
        _ => parts.extend([&CHUNK_F32, if staged { &CHUNK_STAGED } else { &CHUNK_DIRECT }]),
    }
    parts
}

/// The parts that share f32 activations out over a subgroup, 64 bits a load where that may be, and hand them round.
pub(super) fn shared_x(caps: &Caps, request: &Problem) -> [&'static Part; 2] {
    let share = if caps.int64 && request.cols.is_multiple_of(4) { &X_SHARE_64 } else { &X_SHARE_32 };
    [share, &X_QUADS]
}

/// The parts that know which part of y is whose, and which weights belong to it.
pub(super) fn tiles(request: &Problem) -> [&'static Part; 3] {
    let columns = if request.experts { &COLUMNS_EXPERTS } else { &COLUMNS_PLAIN };
    [&TILE, columns, if request.gathered { &WEIGHTS_GATHERED } else { &WEIGHTS_PLAIN }]
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

/// The shader of one cell of formats × kernels: directives, constants, parameters, the kernel's library parts, decoder,
/// kernel. Kernels that decode nothing have no decoder in theirs.
pub fn compose(kernel: &Kernel, config: &KernelConfig, layout: &Layout) -> Source {
    let format = layout.format;
    let decodes = kernel.operation.decodes();
    let of = if decodes { format.name } else { "every format" };
    let mut header = format!("// qmatmul: {} of {of}\n", kernel.name);
    for extension in config.enables {
        let _ = writeln!(header, "enable {extension};");
    }
    let _ = writeln!(header, "const WORKGROUP = {}u;", config.workgroup);
    let _ = writeln!(header, "const ZERO_SIGN = {};", kernel.operation != Operation::Matmul);
    for (name, value) in &config.constants {
        let _ = writeln!(header, "const {name} = {value}u;");
    }
    let (lanes, interleaved) = if decodes { (layout.lanes, layout.interleaved()) } else { (0, 0) };
    let _ = writeln!(header, "const TILE_LANES = {lanes}u;");
    let _ = writeln!(header, "const INTERLEAVED = {interleaved}u;");
    if decodes {
        let _ = writeln!(header, "const ACT_ORDER = {}u;", u32::from(layout.ordered));
        for (name, value) in &layout.constants {
            let _ = writeln!(header, "const {name} = {value}u;");
        }
    }
    let mut source = Source { text: String::new(), parts: vec![] };
    source.push("header", &header);
    let book = match layout.book {
        Codebook::Sixteen(_) | Codebook::SixteenAndScales(..) if decodes => vec![config.lookup, &LOOKUP],
        Codebook::Grid(_) if decodes => vec![&GRID, &QUADS],
        Codebook::None | Codebook::Words(_) if decodes && layout.has_codes() => vec![&QUADS],
        _ => vec![],
    };
    let words = if decodes { config.words } else { &WORDS_32 };
    let shares = decodes && format.shader.contains("fn shared_words(");
    let stands_in = |part: &Part| [SHARED_NONE.path, CODES_ALONE.path].contains(&part.path);
    let parts = config.parts.iter().copied().filter(|part| !(shares && stands_in(part)));
    for part in [&PARAMS, words, &CODES].into_iter().chain(book).chain(parts) {
        source.push(part.path, part.text);
    }
    if decodes {
        source.push(format!("shaders/decode/{}.wgsl", format.stem), format.shader);
    }
    source.push(format!("shaders/op/{}.wgsl", kernel.name), kernel.shader);
    source
}

/// The directives and types of cooperative matrices of this edge, 8 or 16.
pub fn cooperative_types(edge: u32) -> String {
    let matrices = if edge == 8 { &COOP_8 } else { &COOP_16 };
    format!("enable f16;\nenable wgpu_cooperative_matrix;\n{}", matrices.text)
}

/// The shader that tells whether cooperative matrices of this edge can be trusted.
pub fn cooperative_probe(edge: u32, workgroup: u32) -> String {
    let probe = include_str!("../../shaders/probe/cooperative.wgsl");
    format!("{}const WORKGROUP = {workgroup}u;\n{probe}", cooperative_types(edge))
}
