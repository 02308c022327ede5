//! GPU against CPU: what counts as equal, and the check of a whole tensor.
//!
//! The bounds live in `compare.rs` and nowhere else.
//!
//! * Dequantize and get_rows: equal bits. Both sides compute the same exact products and round
//!   once. One NaN is as good as another. A weight below 2^-123 may be zero, because devices may
//!   flush subnormal numbers: that is what the smallest scales of MXFP4 are, though their largest
//!   products are not, and what F32 and BF16 weights may be. NF4 and FP4 are one product of an f32
//!   code and an f32 scale, too; scales that are quantized again, a product and a sum that a device
//!   might fuse, are decoded at upload, by the CPU's own code. The rounding that bitsandbytes adds,
//!   to the type of the layer, is left out on both sides.
//! * Matmul: NMSE at most [`NMSE_F32`] against f64 sums over the same decoded weights. It catches a
//!   scale that lost mantissa bits and a single wrong entry of a code book, which ggml's bar of
//!   5e-4 does not. The error is taken relative to the power of the result, or to the power its
//!   products have with random signs, Σ(x·w)², where that is larger: the two agree for many
//!   outputs, but one output alone may cancel to nearly nothing, and then even a correctly rounded
//!   f32 sum is far from it in its own terms.
//! * Each row of a matmul by itself, in the same terms: at most [`NMSE_ROW`]. A weight may have
//!   rows a million times larger than the others, and the whole then says nothing about those. In a
//!   mixture, each row of each expert.
//! * A row is skipped, and told to be, where sums on the way may be infinite on any device: where
//!   √(k · Σ(x·w)²), which no sum of so many products exceeds, is beyond f32.
//! * Activations that are rounded on the way: the same bounds against a CPU twin that rounds them
//!   alike, bit for bit. And against the activations as they are, [`NMSE_F16`] or [`NMSE_Q8`],
//!   which says that what was rounded was the right thing. A kernel that rounds weights to f16 as
//!   well, as cooperative matrices must, is held to [`NMSE_F16`] alone.
//! * Rounding errors are random: few outputs stray further than many do, so their bounds are wider,
//!   by 1 + 16 / count.

mod asynchronous;
#[cfg(not(target_family = "wasm"))]
mod blocking;
mod compare;
mod random;
mod verify;

pub use asynchronous::{
    candidates_into_async, experts_async, layer_async, lora_into_async, matmul_async, matmul_experts_async,
    sampled_async, tensor_async, tensor_into_async,
};
#[cfg(not(target_family = "wasm"))]
pub use blocking::{
    candidates_into, experts, layer, lora_into, matmul, matmul_experts, sampled, tensor, tensor_into,
};
pub use compare::{
    Comparison, NMSE_F16, NMSE_F32, NMSE_INT8, NMSE_Q8, NMSE_ROW, Worst, bound, compare, compare_bits, judge,
};
pub use random::{Random, activations, random_tensor};
pub use verify::{Outcome, applies};
