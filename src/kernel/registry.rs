//! The table of kernels.

use super::op;
use super::types::Kernel;

/// Every kernel, one row a line, sorted.
pub static KERNELS: &[&Kernel] = &[
    &op::clear_columns::KERNEL,
    &op::dequantize::KERNEL,
    &op::gather_act_order::KERNEL,
    &op::gather_columns::KERNEL,
    &op::gather_outliers::KERNEL,
    &op::gemm::KERNEL,
    &op::gemm_coop::KERNEL,
    &op::gemm_q8::KERNEL,
    &op::gemv::KERNEL,
    &op::get_rows::KERNEL,
    &op::matmul_software::KERNEL,
    &op::outlier_list::KERNEL,
    &op::outlier_mask::KERNEL,
    &op::quantize_activations_int8::KERNEL,
    &op::quantize_activations_int8_f32::KERNEL,
    &op::quantize_activations_int8_one::KERNEL,
    &op::quantize_activations_q24::KERNEL,
    &op::quantize_activations_q8::KERNEL,
    &op::quantize_four_bit::KERNEL,
    &op::reduce_split_k::KERNEL,
    &op::round_activations_f16::KERNEL,
    &op::round_results_f16::KERNEL,
    &op::route_experts::KERNEL,
    &op::row_scales::KERNEL,
];

/// The kernel of this name.
pub fn by_name(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().copied().find(|k| k.name.eq_ignore_ascii_case(name))
}
