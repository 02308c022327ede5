//! The operations: one file each, beside its shader in `shaders/op/`.

pub(crate) mod clear_columns;
pub(crate) mod dequantize;
pub(crate) mod experts;
pub(crate) mod gather_act_order;
pub(crate) mod gather_columns;
pub(crate) mod gather_outliers;
pub(crate) mod gemm;
pub(crate) mod gemm_coop;
pub(crate) mod gemm_q8;
pub(crate) mod gemv;
pub(crate) mod get_rows;
pub mod llm_int8;
pub(crate) mod matmul;
pub(crate) mod matmul_software;
pub(crate) mod outlier_list;
pub(crate) mod outlier_mask;
pub(crate) mod quantize_activations_int8;
pub(crate) mod quantize_activations_int8_f32;
pub(crate) mod quantize_activations_int8_one;
pub mod quantize_activations_q8;
pub(crate) mod quantize_four_bit;
pub(crate) mod reduce_split_k;
pub mod round_activations_f16;
pub(crate) mod route_experts;
pub(crate) mod row_scales;
pub(crate) mod stage;
mod tiles;
