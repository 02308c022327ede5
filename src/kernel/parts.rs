//! The files of `shaders/lib/`.

/// A file of `shaders/`.
pub struct Part {
    /// Path below the repository's root.
    pub path: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// A path has one text: whoever looks a pipeline up does not go through kilobytes of it.
impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Part {}

impl std::hash::Hash for Part {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

macro_rules! part {
    ($path:literal) => {
        Part { path: concat!("shaders/", $path), text: include_str!(concat!("../../shaders/", $path)) }
    };
}

pub(super) static COMMON: Part = part!("lib/common.wgsl");
pub(super) static SPAN: Part = part!("lib/span.wgsl");
pub(super) static PLANES: Part = part!("lib/planes.wgsl");
pub(super) static BOOK: Part = part!("lib/book.wgsl");
pub(super) static BOOK_NONE: Part = part!("lib/book_none.wgsl");
pub(super) static PRODUCT: Part = part!("lib/product.wgsl");
pub(super) static FINISH_NONE: Part = part!("lib/finish_none.wgsl");
pub(super) static FINISH_SILU: Part = part!("lib/finish_silu.wgsl");
/// Activations as they are given.
pub(super) static INPUT_F32: Part = part!("lib/input_f32.wgsl");
pub(super) static INPUT_F16: Part = part!("lib/input_f16.wgsl");
pub(super) static OUTLIER: Part = part!("lib/outlier.wgsl");
pub(super) static OUTLIERS_MASK: Part = part!("lib/outliers_mask.wgsl");
pub(super) static OUTLIERS_NONE: Part = part!("lib/outliers_none.wgsl");
pub(super) static FACTOR_NONE: Part = part!("lib/factor_none.wgsl");
pub(super) static FACTOR_IN_PLANE: Part = part!("lib/factor_plane.wgsl");
pub(super) static CODES: Part = part!("lib/codes.wgsl");
pub(super) static LOOKUP_MEMORY: Part = part!("lib/lookup_memory.wgsl");
pub(super) static LOOKUP_BYTES: Part = part!("lib/lookup_bytes.wgsl");
pub(super) static LOOKUP_INTEGERS: Part = part!("lib/lookup_integers.wgsl");
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
/// What decoders have of their own where words belong to several chunks, and what stands in where
/// they have not.
pub(super) static SHARED_NONE: Part = part!("lib/shared_none.wgsl");
pub(super) static CODES_ALONE: Part = part!("lib/codes_alone.wgsl");
pub(super) static X_SHARE_32: Part = part!("lib/x_share_32.wgsl");
pub(super) static X_SHARE_64: Part = part!("lib/x_share_64.wgsl");
pub(super) static X_QUADS: Part = part!("lib/x_quads.wgsl");
pub(super) static QUADS: Part = part!("lib/quads.wgsl");
pub(super) static LOOKUP: Part = part!("lib/lookup.wgsl");
pub(super) static GRID: Part = part!("lib/grid.wgsl");
pub(super) static GRID_SHIFTED: Part = part!("lib/grid_shifted.wgsl");
pub(super) static TILE_LANES: Part = part!("lib/tile_lanes.wgsl");
pub(super) static TILE: Part = part!("lib/tile.wgsl");
pub(super) static COLUMNS_PLAIN: Part = part!("lib/columns_plain.wgsl");
pub(super) static COLUMNS_EXPERTS: Part = part!("lib/columns_experts.wgsl");
pub(super) static CHUNK_F32: Part = part!("lib/chunk_f32.wgsl");
pub(super) static CHUNK_DIRECT: Part = part!("lib/chunk_direct.wgsl");
pub(super) static CHUNK_Q24: Part = part!("lib/chunk_q24.wgsl");
pub(super) static CHUNK_Q8: Part = part!("lib/chunk_q8.wgsl");
/// Whether the last chunk of a row may lack features.
pub(super) static K_WHOLE: Part = part!("lib/k_whole.wgsl");
pub(super) static K_ANY: Part = part!("lib/k_any.wgsl");
pub(super) static X_DIRECT: Part = part!("lib/x_direct.wgsl");
pub(super) static X_STAGED: Part = part!("lib/x_staged.wgsl");
pub(super) static ADD_CODES: Part = part!("lib/add_codes.wgsl");
pub(super) static WEIGHTS_CODES: Part = part!("lib/weights_codes.wgsl");
/// Where codes of activations lie, and how they are read.
pub(super) static X_CHUNK: Part = part!("lib/x_chunk.wgsl");
pub(super) static CODE_PLACE: Part = part!("lib/code_place.wgsl");
pub(super) static X_DIGITS: Part = part!("lib/x_digits.wgsl");
pub(super) static X_Q24: Part = part!("lib/x_q24.wgsl");
pub(super) static ADD_VALUES: Part = part!("lib/add_values.wgsl");
pub(super) static WEIGHTS_RAW: Part = part!("lib/weights_raw.wgsl");
pub(super) static WEIGHTS_VALUES: Part = part!("lib/weights_values.wgsl");
pub(super) static WEIGHTS_DECODED: Part = part!("lib/weights_decoded.wgsl");
/// What all 32 weights of a chunk are, by a decoder's packed words.
pub(super) static DECODE_CODES: Part = part!("lib/decode_codes.wgsl");
pub(super) static DECODE_VALUES: Part = part!("lib/decode_values.wgsl");
pub(super) static DECODE_CHUNK: Part = part!("lib/decode_chunk.wgsl");
/// How codes become f32.
pub(super) static VALUES_CONVERTED: Part = part!("lib/values_converted.wgsl");
pub(super) static VALUES_HALVES: Part = part!("lib/values_halves.wgsl");
/// What two of these have in common.
pub(super) static VALUES_POWERS: Part = part!("lib/values_powers.wgsl");
pub(super) static VALUES_MIXED: Part = part!("lib/values_mixed.wgsl");
pub(super) static VALUES_MANTISSA: Part = part!("lib/values_mantissa.wgsl");
pub(super) static WRITTEN_ALL: Part = part!("lib/written_all.wgsl");
pub(super) static WRITTEN_LISTED: Part = part!("lib/written_listed.wgsl");
pub(super) static WEIGHTS_GATHERED: Part = part!("lib/weights_gathered.wgsl");
pub(super) static WEIGHTS_PLAIN: Part = part!("lib/weights_plain.wgsl");
/// What makes halves of weights for cooperative matrices, and of their codes.
pub(super) static HALVES_OF_CODES: Part = part!("lib/halves_of_codes.wgsl");
pub(super) static HALVES_OF_WEIGHTS: Part = part!("lib/halves_of_weights.wgsl");
pub(super) static QUADS_F16: Part = part!("lib/quads_f16.wgsl");
pub(super) static LOOKUP_F16: Part = part!("lib/lookup_f16.wgsl");
pub(super) static INT8: Part = part!("lib/int8.wgsl");
pub(super) static LARGEST: Part = part!("lib/largest.wgsl");
pub(super) static HALVES: Part = part!("lib/halves.wgsl");
pub(super) static DOT_BYTES_PACKED: Part = part!("lib/dot_bytes_packed.wgsl");
pub(super) static DOT_BYTES_PLAIN: Part = part!("lib/dot_bytes_plain.wgsl");
pub(super) static X_F16: Part = part!("lib/x_f16.wgsl");
pub(super) static X_Q8: Part = part!("lib/x_q8.wgsl");
pub(super) static X_HALVES: Part = part!("lib/x_halves.wgsl");
pub(super) static X_SCALAR: Part = part!("lib/x_scalar.wgsl");
pub(super) static X_VEC4: Part = part!("lib/x_vec4.wgsl");
pub(super) static X_VEC4_F16: Part = part!("lib/x_vec4_f16.wgsl");

/// Bytes of workgroup memory of a part that looks codes up.
pub(super) fn lookup_memory(part: &Part) -> u32 {
    match part.path {
        "shaders/lib/lookup_memory.wgsl" => 16 * 4,
        "shaders/lib/lookup_bytes.wgsl" => 256 * 8,
        "shaders/lib/lookup_integers.wgsl" => 256 * 4,
        _ => 0,
    }
}
