//! What was measured while a model ran: importance matrices, captured activations, outlier columns.

pub(crate) mod activations;
pub mod imatrix;
pub(crate) mod outlier_columns;
