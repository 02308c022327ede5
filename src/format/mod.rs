//! What the bytes of a packed weight mean: one module per storage format, one row of [`FORMATS`]
//! each.
//!
//! A format module holds the block as it lies in the file, the formula, the CPU decoder and
//! encoder, and the layout of the same bits on the device ([`Plane`]s of aligned words, a lossless
//! repack). Its twin `shaders/decode/<stem>.wgsl` decodes that layout.

pub mod affine;
mod bits;
pub(crate) mod block;
pub mod bnb4;
pub(crate) mod factored;
pub mod fp8;
pub(crate) mod ggml;
pub(crate) mod microscale;
pub(crate) mod plain;
pub mod recipe;
pub mod storage;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result, shown};
pub(crate) use affine::uniform;
pub(crate) use bnb4::four_bit;
use recipe::Encoder;
pub use recipe::Recipe;
use std::sync::Arc;
pub use storage::Storage;

/// Makes of each row the format by its name, and the table of all.
macro_rules! formats {
    ($($name:ident: $family:ident::$stem:ident,)*) => {
        /// Every format, sorted by name.
        pub static FORMATS: &[&Format] = &[$(&$family::$stem::FORMAT),*];
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[doc = concat!("The format ", stringify!($name), ".")]
            pub static $name: &Format = &$family::$stem::FORMAT;
        )*
    };
}

// One row a line, sorted.
formats! {
    BF16: plain::bf16,
    F16: plain::f16,
    F32: plain::f32,
    F64: plain::f64,
    FP4: bnb4::fp4,
    FP8_E4M3: fp8::fp8_e4m3,
    FP8_E5M2: fp8::fp8_e5m2,
    I16: plain::i16,
    I32: plain::i32,
    I64: plain::i64,
    I8: plain::i8,
    INT2: affine::int2,
    INT3: affine::int3,
    INT4: affine::int4,
    INT8: affine::int8,
    IQ1_M: ggml::iq1_m,
    IQ1_S: ggml::iq1_s,
    IQ2_S: ggml::iq2_s,
    IQ2_XS: ggml::iq2_xs,
    IQ2_XXS: ggml::iq2_xxs,
    IQ3_S: ggml::iq3_s,
    IQ3_XXS: ggml::iq3_xxs,
    IQ4_NL: ggml::iq4_nl,
    IQ4_XS: ggml::iq4_xs,
    MXFP4: microscale::mxfp4,
    NF4: bnb4::nf4,
    NVFP4: microscale::nvfp4,
    NVFP4_GLOBAL: microscale::nvfp4_global,
    Q1_0: ggml::q1_0,
    Q2_0: ggml::q2_0,
    Q2_K: ggml::q2_k,
    Q3_K: ggml::q3_k,
    Q4_0: ggml::q4_0,
    Q4_1: ggml::q4_1,
    Q4_K: ggml::q4_k,
    Q5_0: ggml::q5_0,
    Q5_1: ggml::q5_1,
    Q5_K: ggml::q5_k,
    Q6_K: ggml::q6_k,
    Q8_0: ggml::q8_0,
    Q8_1: ggml::q8_1,
    Q8_K: ggml::q8_k,
    TQ1_0: ggml::tq1_0,
    TQ2_0: ggml::tq2_0,
    UINT2: affine::uint2,
    UINT3: affine::uint3,
    UINT4: affine::uint4,
    UINT8: affine::uint8,
}

/// A storage format: how `[rows, cols]` weights lie in a file and on the device.
pub struct Format {
    /// Name as written in prose and by tools: `Q4_0`.
    pub name: &'static str,
    /// File stem of the Rust and WGSL modules: `q4_0`.
    pub stem: &'static str,
    /// Type number in GGUF files, where the format has one.
    pub gguf_type: Option<u32>,
    /// What the shader's decoder can give besides weights.
    pub codes: Codes,
    /// What the bytes mean.
    pub coding: Coding,
    /// WGSL of the decoder, `shaders/decode/<stem>.wgsl`.
    pub shader: &'static str,
}

/// Whether the shader has `codes32`, which gives codes and scales apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codes {
    /// It has not.
    #[default]
    None,
    /// It has, and the codes stand for numbers of a book that are no small integers.
    Values,
    /// It has, and codes are integers of eight bits: they can be multiplied with eight-bit
    /// activations.
    Integers,
}

/// What the bytes of a format mean.
#[derive(Debug)]
pub enum Coding {
    /// One run of bytes, cut into blocks that no row shares with another: the types of GGUF.
    Blocks(Blocks),
    /// Several tensors of a checkpoint, which a [`Storage`] of their own knows.
    Parts(Parts),
}

/// A format of blocks: the bytes of row `r` are `r * row_bytes(cols) ..`.
pub struct Blocks {
    /// Weights in a block; the number of columns must be a multiple.
    pub weights: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// Decodes whole blocks: `row.len() / bytes * weights` weights into `out`.
    pub decode: fn(row: &[u8], out: &mut [f32]),
    /// Encodes whole blocks as ggml's plain quantizer does, byte for byte.
    pub encode: Option<Encode>,
    /// True if every scale in these blocks is finite (for plain floats: every weight).
    pub is_finite: fn(row: &[u8]) -> bool,
    /// The aligned planes on the device, in the order of the shader's plane numbers.
    pub planes: &'static [Plane],
    /// Repacks a row of the file into one row of each plane. Lossless.
    pub pack: fn(row: &[u8], planes: &mut [&mut [u32]]),
    /// Inverse of [`Blocks::pack`].
    pub unpack: fn(planes: &[&[u32]], row: &mut [u8]),
    /// The code book that the shader looks codes up in.
    pub book: Codebook,
}

/// A format of several tensors.
pub struct Parts {
    /// Average bits per weight, scales included, of what a [`Recipe`] without a choice makes.
    pub bits_per_weight: f64,
    /// Encodes as the format's own tools do.
    pub(crate) encoder: &'static dyn Encoder,
    /// What the shader is told of `cols` columns that such a recipe has made.
    pub layout: fn(cols: usize) -> Layout,
}

/// Where the values behind the codes of a format come from.
#[derive(Clone, Debug)]
pub enum Codebook {
    /// From arithmetic alone.
    None,
    /// From 16 numbers, which the shader's `lookup` knows.
    Sixteen([f32; 16]),
    /// From 16 numbers, and a scale for each byte behind them in the binding `book`.
    SixteenAndScales([f32; 16], Arc<[f32]>),
    /// From a table of words, which the shader finds in its binding `book`.
    Grid(fn() -> Vec<u32>),
    /// From arithmetic; the binding `book` holds words of the tensor's own, an order of columns or
    /// numbers of groups.
    Words(Arc<[u32]>),
}

impl Codebook {
    /// False if there is nothing to bind.
    pub fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The words of the shader's binding `book`; at least one.
    pub fn words(&self) -> Vec<u32> {
        match self {
            Self::None => vec![0],
            Self::Sixteen(values) => values.iter().map(|v| v.to_bits()).collect(),
            Self::SixteenAndScales(values, scales) => {
                values.iter().chain(scales.iter()).map(|v| v.to_bits()).collect()
            }
            Self::Grid(words) => words(),
            Self::Words(words) => words.to_vec(),
        }
    }
}

/// Planes a format may have.
pub const MAX_PLANES: usize = 4;

/// Encodes whole blocks: weights in, the bytes of their blocks out.
pub type Encode = fn(weights: &[f32], row: &mut [u8]);

/// One plane of the device layout: the same field of every block of a row, side by side, in 32-bit
/// words.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    /// The field, as in "codes".
    pub name: &'static str,
    /// Bits of this field per chunk of 256 weights.
    pub bits_per_256: usize,
    /// Words of a row besides those.
    pub more_words: usize,
}

impl Plane {
    /// A plane with so many bits for 256 weights and nothing else.
    pub const fn new(name: &'static str, bits_per_256: usize) -> Self {
        Self { name, bits_per_256, more_words: 0 }
    }

    /// True if a chunk of 32 weights has 16 bytes or more, which are loaded together.
    pub fn is_wide(&self) -> bool {
        self.bits_per_256 >= 8 * 128 && self.more_words == 0
    }

    /// Words of one row of `cols` weights, rounded up to whole chunks of 32 weights and whole
    /// `vec4<u32>`.
    pub fn row_words(&self, cols: usize) -> usize {
        (cols.div_ceil(32) * self.bits_per_256).div_ceil(8 * 128) * 4 + self.more_words.next_multiple_of(4)
    }
}

/// What a shader is told of a weight beside its shape: the format, and what differs between two
/// tensors of it.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The format.
    pub format: &'static Format,
    /// Constants of the decoder, which a pipeline is compiled with.
    pub constants: Vec<(&'static str, u32)>,
    /// The aligned planes on the device, in the order of the shader's plane numbers.
    pub planes: Vec<Plane>,
    /// The code book.
    pub book: Codebook,
    /// What the decoder can give besides weights, of this tensor.
    pub codes: Codes,
    /// The columns lie in another order on the device, which the book has: place `i` holds column
    /// `book[i]`.
    pub ordered: bool,
}

impl Layout {
    /// True if the shader has `codes32` for this tensor.
    pub fn has_codes(&self) -> bool {
        self.codes != Codes::None
    }

    /// True if those codes are integers, which can be multiplied with eight-bit activations.
    pub fn has_integers(&self) -> bool {
        self.codes == Codes::Integers
    }

    /// True if the shader looks codes up in a book of sixteen numbers.
    pub fn is_looked_up(&self) -> bool {
        matches!(self.book, Codebook::Sixteen(_) | Codebook::SixteenAndScales(..))
    }
}

impl Format {
    /// True if the values of its codebook are moved by a delta each, which
    /// `shaders/lib/grid_shifted.wgsl` does.
    pub(crate) fn moves_values(&self) -> bool {
        self.shader.contains("book4_pairs(")
    }

    /// True if its shader gives codes and scales apart, of some layout at least.
    pub(crate) fn gives_codes(&self) -> bool {
        self.shader.contains("fn raw_scale(") || self.moves_values()
    }

    /// True if its shader gives packed words that are numbers without a scale.
    pub(crate) fn has_raw_values(&self) -> bool {
        self.codes == Codes::None && self.shader.contains("fn raw32(") && !self.gives_codes()
    }

    /// The blocks of a format of blocks.
    pub fn blocks(&self) -> Option<&Blocks> {
        match &self.coding {
            Coding::Blocks(blocks) => Some(blocks),
            Coding::Parts(_) => None,
        }
    }

    /// The CPU's encoder; of a format without one, what says so.
    pub(crate) fn encoder(&self) -> &dyn Encoder {
        match &self.coding {
            Coding::Blocks(blocks) => blocks,
            Coding::Parts(parts) => parts.encoder,
        }
    }

    /// Columns must be a multiple of this.
    pub fn block_weights(&self) -> usize {
        self.blocks().map_or(1, |b| b.weights)
    }

    /// True for the plain numbers of computers.
    pub fn is_plain(&self) -> bool {
        self.blocks().is_some_and(|b| b.weights == 1)
    }

    /// True if [`PackedTensor::encode`](crate::tensor::PackedTensor::encode) knows the format.
    pub fn has_encoder(&self) -> bool {
        self.blocks().is_none_or(|b| b.encode.is_some())
    }

    /// Bytes of one row of `cols` weights in a file, or `None` if `cols` is not a multiple of the
    /// block, the product overflows, or rows have no bytes of their own.
    pub fn row_bytes(&self, cols: usize) -> Option<usize> {
        let block = self.blocks()?;
        let blocks = cols.is_multiple_of(block.weights).then_some(cols / block.weights)?;
        blocks.checked_mul(block.bytes)
    }

    /// [`Format::row_bytes`] of a tensor.
    pub(crate) fn row_bytes_of(&self, name: &str, cols: usize) -> Result<usize> {
        if self.blocks().is_none() {
            let name = self.name;
            return Err(Error::Argument(format!(
                "{name} weights lie in several tensors, not in one run of bytes"
            )));
        }
        self.row_bytes(cols).ok_or_else(|| {
            let wanted = format!("columns divisible by {}", self.block_weights());
            Error::shape(format!("tensor `{}` in {}", shown(name), self.name), wanted, cols)
        })
    }

    /// True if the weights are integer codes with scales, so that they can be multiplied with
    /// eight-bit activations.
    pub fn has_integers(&self) -> bool {
        self.codes == Codes::Integers
    }

    /// Average bits per weight, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        match &self.coding {
            Coding::Blocks(b) => b.bytes as f64 * 8.0 / b.weights as f64,
            Coding::Parts(p) => p.bits_per_weight,
        }
    }

    /// What the shader is told of weights with `cols` columns, of a tensor as our own encoder makes
    /// it.
    pub fn layout(&'static self, cols: usize) -> Layout {
        match &self.coding {
            Coding::Parts(p) => (p.layout)(cols),
            Coding::Blocks(b) => Layout {
                format: self,
                constants: vec![],
                planes: b.planes.to_vec(),
                book: b.book.clone(),
                ordered: false,
                codes: self.codes,
            },
        }
    }
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks")
            .field("weights", &self.weights)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("bits_per_weight", &self.bits_per_weight).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The format of this name, in any case.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// The format with this GGUF type number.
pub fn by_gguf_type(id: u32) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.gguf_type == Some(id))
}

/// The names of all formats, for messages: `BF16, F16, …`.
pub fn names() -> String {
    FORMATS.iter().map(|f| f.name).collect::<Vec<_>>().join(", ")
}
