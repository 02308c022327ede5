//! Composition of a shader: files in a fixed order behind a header of constants, with a map from
//! its lines back to the files.

use super::parts::{
    BOOK, BOOK_NONE, CHUNK_DIRECT, CHUNK_F32, CHUNK_Q8, CHUNK_Q24, CODE_PLACE, CODES, CODES_ALONE,
    COLUMNS_EXPERTS, COLUMNS_PLAIN, COMMON, COOP_8, COOP_16, DECODE_CHUNK, DECODE_CODES, DECODE_VALUES,
    DOT_BYTES_PACKED, DOT_BYTES_PLAIN, FACTOR_IN_PLANE, FACTOR_NONE, FINISH_NONE, FINISH_SILU, GRID,
    GRID_SHIFTED, HALVES_OF_CODES, INPUT_F16, INPUT_F32, K_ANY, K_WHOLE, LOOKUP, LOOKUP_F16, PLANES, PRODUCT,
    Part, QUADS, QUADS_F16, SHARED_NONE, SPAN, TILE, VALUES_MANTISSA, VALUES_MIXED, VALUES_POWERS,
    WEIGHTS_GATHERED, WEIGHTS_PLAIN, X_DIGITS, X_F16, X_Q8, X_Q24, X_QUADS, X_SCALAR, X_SHARE_32, X_SHARE_64,
    X_VEC4, X_VEC4_F16,
};
use super::shard::DeviceLayout;
use crate::format::Codebook;
use crate::format::factored::FACTOR_PLANE;
use crate::kernel::activations::Activations;
use crate::kernel::types::{CHUNK, Caps, Kernel, KernelConfig, Operation, Problem};
use std::fmt::Write;

/// The parts that read activations: f32 16 bytes at a time where their columns are aligned; bytes
/// come with their product.
pub(super) fn x(caps: &Caps, request: &Problem) -> Vec<&'static Part> {
    match request.activations {
        Activations::F32 if has_quads(request) => {
            let ends = if request.cols.is_multiple_of(CHUNK) { &K_WHOLE } else { &K_ANY };
            vec![ends, if request.half { &X_VEC4_F16 } else { &X_VEC4 }]
        }
        Activations::F32 => vec![input(request), &X_SCALAR],
        Activations::F16 => vec![&X_F16],
        Activations::Q8 | Activations::Int8(_) => vec![dot_bytes(caps), &CODE_PLACE, &X_DIGITS, &X_Q8],
        Activations::Q24 => vec![dot_bytes(caps), &CODE_PLACE, &X_DIGITS, &X_Q24],
    }
}

/// The part that multiplies bytes, four at a time.
fn dot_bytes(caps: &Caps) -> &'static Part {
    if caps.int_dot { &DOT_BYTES_PACKED } else { &DOT_BYTES_PLAIN }
}

/// The parts that multiply 32 weights by 32 activations.
pub(super) fn chunks(caps: &Caps, request: &Problem) -> Vec<&'static Part> {
    let mut parts = x(caps, request);
    match request.activations {
        Activations::Q8 | Activations::Int8(_) => parts.push(&CHUNK_Q8),
        Activations::Q24 => parts.push(&CHUNK_Q24),
        _ => parts.extend([&CHUNK_F32, &CHUNK_DIRECT]),
    }
    parts
}

/// True if four activations can be read at once.
fn has_quads(request: &Problem) -> bool {
    request.cols.is_multiple_of(4) && !request.unaligned
}

/// The part that reads activations as they are given, one at a time.
pub(super) fn input(request: &Problem) -> &'static Part {
    if request.half { &INPUT_F16 } else { &INPUT_F32 }
}

/// The part that results go through last.
pub(super) fn finish(request: &Problem) -> &'static Part {
    if request.silu { &FINISH_SILU } else { &FINISH_NONE }
}

/// The parts that share f32 activations out over a subgroup, 64 bits a load where that may be, and
/// hand them round.
pub(super) fn shared_x(caps: &Caps, request: &Problem) -> Vec<&'static Part> {
    match caps.int64 && has_quads(request) && !request.half {
        true => vec![&X_SHARE_64, &X_QUADS],
        false => vec![input(request), &X_SHARE_32, &X_QUADS],
    }
}

/// The parts that know which part of y is whose, and which weights belong to it.
pub(super) fn tiles(request: &Problem) -> [&'static Part; 5] {
    let columns = if request.experts { &COLUMNS_EXPERTS } else { &COLUMNS_PLAIN };
    let weights = if request.gathered { &WEIGHTS_GATHERED } else { &WEIGHTS_PLAIN };
    [&PRODUCT, &TILE, columns, weights, finish(request)]
}

/// A composed shader.
#[derive(Clone, Debug)]
pub struct Source {
    /// The WGSL text, entry point `main`.
    pub text: String,
    /// First line (from 1) of each part, and its path.
    parts: Vec<(usize, String)>,
}

/// What a shader declares at one binding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Declared {
    /// Its number.
    pub number: u32,
    /// The name of the variable.
    pub name: String,
    /// How it is accessed.
    pub access: Access,
}

/// How a shader accesses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Parameters.
    Uniform,
    /// A buffer that it reads.
    Read,
    /// A buffer that it writes, too.
    Write,
}

impl Source {
    /// What the shader binds, by number. Declarations are lines of their own, of one form; a test
    /// compares them with what a compiler makes of them.
    pub fn bindings(&self) -> Vec<Declared> {
        let declared = |line: &str| {
            let (number, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
            let (access, rest) = rest.split_once("> ")?;
            let access = match access {
                "uniform" => Access::Uniform,
                "storage, read" => Access::Read,
                _ => Access::Write,
            };
            let name = rest.split_once(':')?.0.to_owned();
            Some(Declared { number: number.parse().ok()?, name, access })
        };
        let mut all: Vec<_> = self.text.lines().filter_map(declared).collect();
        all.sort_by_key(|declared| declared.number);
        all
    }

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
    if kernel.operation == Operation::Matmul {
        let _ = writeln!(header, "const MAY_SPLIT = {};", config.splits > 1);
    }
    for (name, value) in &config.constants {
        let _ = writeln!(header, "const {name} = {value}u;");
    }
    if decodes {
        let _ = writeln!(header, "const TILE_LANES = {}u;", layout.lanes);
        let _ = writeln!(header, "const INTERLEAVED = {}u;", layout.interleaved());
        let _ = writeln!(header, "const ACT_ORDER = {}u;", u32::from(layout.ordered));
        for (name, value) in &layout.constants {
            let _ = writeln!(header, "const {name} = {value}u;");
        }
    }
    let mut source = Source { text: String::new(), parts: vec![] };
    source.push("header", &header);
    let decoding = if decodes { decoding(config, layout) } else { vec![] };
    let has_factors = layout.constants.iter().any(|(name, _)| *name == FACTOR_PLANE);
    let factor = match decodes {
        true if has_factors => Some(&FACTOR_IN_PLANE),
        true => Some(&FACTOR_NONE),
        false => None,
    };
    let shares = decodes && format.shader.contains("fn shared_words(");
    let stands_in = |part: &Part| [SHARED_NONE.path, CODES_ALONE.path].contains(&part.path);
    let parts = config.parts.iter().copied().filter(|part| !(shares && stands_in(part)));
    let has_book = if layout.book.is_some() { &BOOK } else { &BOOK_NONE };
    let planes = if decodes { vec![&PLANES, config.words, &CODES, has_book] } else { vec![] };
    let parts: Vec<_> = planes.into_iter().chain(factor).chain(decoding).chain(parts).collect();
    let of_tokens = parts.iter().map(|part| part.text).chain([kernel.shader]).any(|t| t.contains("span."));
    for part in [&COMMON].into_iter().chain(of_tokens.then_some(&SPAN)).chain(parts) {
        source.push(part.path, part.text);
    }
    if decodes {
        source.push(format!("shaders/decode/{}.wgsl", format.stem), format.shader);
    }
    source.push(format!("shaders/op/{}.wgsl", kernel.name), kernel.shader);
    if config.one_buffer {
        let declared = source.bindings();
        let read = declared.iter().filter(|b| b.access == Access::Read && !OF_WEIGHTS.contains(&&*b.name));
        for Declared { name, .. } in read {
            let (read, write) =
                (format!("<storage, read> {name}:"), format!("<storage, read_write> {name}:"));
            source.text = source.text.replace(&read, &write);
        }
    }
    source
}

/// The parts that stand between the words of a decoder and numbers.
fn decoding(config: &KernelConfig, layout: &DeviceLayout) -> Vec<&'static Part> {
    let (format, shader) = (layout.format, layout.format.shader);
    let mut parts = vec![];
    if matches!(layout.book, Codebook::Grid(_)) {
        parts.push(&GRID);
    }
    if format.moves_values() {
        parts.push(&GRID_SHIFTED);
    }
    if layout.is_looked_up() {
        parts.extend([config.lookup, &LOOKUP]);
    } else if format.gives_codes() {
        parts.extend([&QUADS, config.values]);
        if [&VALUES_MANTISSA, &VALUES_MIXED].contains(&config.values) {
            parts.push(&VALUES_POWERS);
        }
    }
    if config.parts.contains(&&HALVES_OF_CODES) {
        parts.push(if layout.is_looked_up() { &LOOKUP_F16 } else { &QUADS_F16 });
    }
    if format.gives_codes() {
        parts.push(&DECODE_CODES);
    } else if format.has_raw_values() {
        parts.push(&DECODE_VALUES);
    }
    if shader.contains("fn raw32(") && !format.moves_values() && !shader.contains("fn decode32(") {
        parts.push(&DECODE_CHUNK);
    }
    parts
}

/// Bindings that are never slots.
const OF_WEIGHTS: [&str; 5] = ["w", "w4", "book", "row_scales", "order"];

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
