//! Composition of a shader: files in a fixed order behind a header of constants, with a map from
//! its lines back to the files.

use super::parts::{
    CHUNK_DIRECT, CHUNK_F32, CHUNK_Q8, CHUNK_STAGED, CODES, CODES_ALONE, COLUMNS_EXPERTS, COLUMNS_PLAIN,
    COOP_8, COOP_16, DOT_BYTES_PACKED, DOT_BYTES_PLAIN, FACTOR_IN_PLANE, FACTOR_NONE, GRID, LOOKUP, PARAMS,
    Part, QUADS, SHARED_NONE, TILE, WEIGHTS_GATHERED, WEIGHTS_PLAIN, WORDS_32, X_F16, X_Q8, X_QUADS,
    X_SCALAR, X_SHARE_32, X_SHARE_64, X_VEC4,
};
use super::shard::DeviceLayout;
use crate::format::Codebook;
use crate::format::factored::FACTOR_PLANE;
use crate::kernel::activations::Activations;
use crate::kernel::types::{Caps, Kernel, KernelConfig, Operation, Problem};
use std::fmt::Write;

/// The parts that read activations: f32 16 bytes at a time where their columns are aligned; bytes
/// come with their product.
pub(super) fn x(caps: &Caps, request: &Problem) -> Vec<&'static Part> {
    match request.activations {
        Activations::F32 if request.cols.is_multiple_of(4) => vec![&X_VEC4],
        Activations::F32 => vec![&X_SCALAR],
        Activations::F16 => vec![&X_F16],
        Activations::Q8 | Activations::Int8(_) if caps.int_dot => vec![&DOT_BYTES_PACKED, &X_Q8],
        Activations::Q8 | Activations::Int8(_) => vec![&DOT_BYTES_PLAIN, &X_Q8],
    }
}

/// The parts that multiply 32 weights by 32 activations, which are `staged` in workgroup memory or
/// not.
pub(super) fn chunks(caps: &Caps, request: &Problem, staged: bool) -> Vec<&'static Part> {
    let mut parts = x(caps, request);
    match request.activations {
        Activations::Q8 | Activations::Int8(_) => parts.push(&CHUNK_Q8),
        _ => parts.extend([&CHUNK_F32, if staged { &CHUNK_STAGED } else { &CHUNK_DIRECT }]),
    }
    parts
}

/// The parts that share f32 activations out over a subgroup, 64 bits a load where that may be, and
/// hand them round.
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
    /// A shader of one part.
    #[cfg(test)]
    pub(crate) fn of(text: impl Into<String>) -> Self {
        Self { text: text.into(), parts: vec![(1, "shader".into())] }
    }

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

/// The shader of one cell of formats × kernels: directives, constants, parameters, the kernel's
/// library parts, decoder, kernel. Kernels that decode nothing have no decoder in theirs.
pub fn compose(kernel: &Kernel, config: &KernelConfig, layout: &DeviceLayout) -> Source {
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
    let has_factors = layout.constants.iter().any(|(name, _)| *name == FACTOR_PLANE);
    let factor = match decodes {
        true if has_factors => Some(&FACTOR_IN_PLANE),
        true => Some(&FACTOR_NONE),
        false => None,
    };
    let words = if decodes { config.words } else { &WORDS_32 };
    let shares = decodes && format.shader.contains("fn shared_words(");
    let stands_in = |part: &Part| [SHARED_NONE.path, CODES_ALONE.path].contains(&part.path);
    let parts = config.parts.iter().copied().filter(|part| !(shares && stands_in(part)));
    for part in [&PARAMS, words, &CODES].into_iter().chain(factor).chain(book).chain(parts) {
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
