//! What the bytes of a packed weight mean: one module per storage format, one row of [`FORMATS`] each.
//!
//! A format module holds the block as it lies in the file, the formula, the CPU decoder and encoder, and the layout of
//! the same bits on the device ([`Plane`]s of aligned words, a lossless repack). Its twin `shaders/decode/<stem>.wgsl`
//! decodes that layout.

mod bf16;
mod f16;
mod f32;
mod f64;
mod i16;
mod i32;
mod i64;
mod i8;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q1_0;
mod q2_0;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod q8_1;
mod q8_k;
mod tq1_0;
mod tq2_0;

mod bits;
mod grid;
#[cfg(test)]
mod tests;

use bytemuck::AnyBitPattern;

/// Every format, one row a line, sorted.
pub static FORMATS: &[&Format] = &[
    &bf16::FORMAT,
    &f16::FORMAT,
    &f32::FORMAT,
    &f64::FORMAT,
    &i16::FORMAT,
    &i32::FORMAT,
    &i64::FORMAT,
    &i8::FORMAT,
    &iq1_m::FORMAT,
    &iq1_s::FORMAT,
    &iq2_s::FORMAT,
    &iq2_xs::FORMAT,
    &iq2_xxs::FORMAT,
    &iq3_s::FORMAT,
    &iq3_xxs::FORMAT,
    &iq4_nl::FORMAT,
    &iq4_xs::FORMAT,
    &mxfp4::FORMAT,
    &nvfp4::FORMAT,
    &q1_0::FORMAT,
    &q2_0::FORMAT,
    &q2_k::FORMAT,
    &q3_k::FORMAT,
    &q4_0::FORMAT,
    &q4_1::FORMAT,
    &q4_k::FORMAT,
    &q5_0::FORMAT,
    &q5_1::FORMAT,
    &q5_k::FORMAT,
    &q6_k::FORMAT,
    &q8_0::FORMAT,
    &q8_1::FORMAT,
    &q8_k::FORMAT,
    &tq1_0::FORMAT,
    &tq2_0::FORMAT,
];

/// A storage format: how `[rows, cols]` weights lie in a file and on the device.
///
/// Rows are independent: the bytes of row `r` are `r * row_bytes(cols) ..` of plane 0 of the file.
pub struct Format {
    /// Name as written in prose and by tools: `Q4_0`.
    pub name: &'static str,
    /// File stem of the Rust and WGSL modules: `q4_0`.
    pub stem: &'static str,
    /// Type number in GGUF files, where the format has one.
    pub gguf_type: Option<u32>,
    /// Weights in a block; the number of columns must be a multiple.
    pub block_weights: usize,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Decodes whole blocks: `row.len() / block_bytes * block_weights` weights into `out`.
    pub decode: fn(row: &[u8], out: &mut [f32]),
    /// Encodes whole blocks as ggml's plain quantizer does, byte for byte.
    pub encode: Option<Encode>,
    /// True if every scale in these blocks is finite (for plain floats: every weight).
    pub is_finite: fn(row: &[u8]) -> bool,
    /// The aligned planes on the device, in the order of the shader's plane numbers.
    pub planes: &'static [Plane],
    /// Repacks a row of the file into one row of each plane. Lossless.
    pub pack: fn(row: &[u8], planes: &mut [&mut [u32]]),
    /// Inverse of [`Format::pack`].
    pub unpack: fn(planes: &[&[u32]], row: &mut [u8]),
    /// The code book that the shader looks codes up in.
    pub book: Book,
    /// WGSL of the decoder, `shaders/decode/<stem>.wgsl`.
    pub shader: &'static str,
}

/// Where the values behind the codes of a format come from.
#[derive(Clone, Copy)]
pub enum Book {
    /// From arithmetic alone.
    None,
    /// From 16 numbers, which the shader's `lookup` knows.
    Sixteen(&'static [f32; 16]),
    /// From a table of words, which the shader finds in its binding `book`.
    Grid(fn() -> Vec<u32>),
}

impl Book {
    /// The words of the shader's binding `book`; at least one.
    pub fn words(&self) -> Vec<u32> {
        match self {
            Self::None => vec![0],
            Self::Sixteen(values) => values.iter().map(|v| v.to_bits()).collect(),
            Self::Grid(words) => words(),
        }
    }
}

/// Encodes whole blocks: weights in, the bytes of their blocks out.
pub type Encode = fn(weights: &[f32], row: &mut [u8]);

/// One plane of the device layout: the same field of every block of a row, side by side, in 32-bit words.
#[derive(Debug)]
pub struct Plane {
    /// The field, as in "codes".
    pub name: &'static str,
    /// Bits of this field per chunk of 256 weights.
    pub bits_per_256: usize,
}

impl Plane {
    /// Words of one row of `cols` weights, rounded up to whole chunks of 32 weights and whole `vec4<u32>`.
    pub fn row_words(&self, cols: usize) -> usize {
        (cols.div_ceil(32) * self.bits_per_256).div_ceil(8 * 128) * 4
    }
}

impl Format {
    /// Bytes of one row of `cols` weights in a file, or `None` if `cols` is not a multiple of the block or the product overflows.
    pub fn row_bytes(&self, cols: usize) -> Option<usize> {
        let blocks = cols.is_multiple_of(self.block_weights).then_some(cols / self.block_weights)?;
        blocks.checked_mul(self.block_bytes)
    }

    /// True if the weights are integer codes with scales, so that the shader has `codes32` and they can be multiplied with
    /// eight-bit activations.
    pub fn has_codes(&self) -> bool {
        self.shader.contains("fn codes32(")
    }

    /// Average bits per weight, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        self.block_bytes as f64 * 8.0 / self.block_weights as f64
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

/// The bytes of a row as blocks. `B` has alignment 1 and `bytes` is a whole number of them.
fn blocks<B: AnyBitPattern>(bytes: &[u8]) -> &[B] {
    bytemuck::cast_slice(bytes)
}
