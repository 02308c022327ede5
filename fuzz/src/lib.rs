//! What the targets share.

use qmatmul::Error;
use qmatmul::file::Model;

/// Weights that are decoded.
const SMALL: u64 = 1 << 14;

/// Asks a model for everything.
pub fn look_at(model: &Model) {
    for info in model.tensors() {
        match model.linear(info) {
            Ok(linear) if info.elements().max(info.rows()) <= SMALL => drop(linear.weight().dequantize()),
            Ok(_) => {}
            Err(error) => check(&error),
        }
    }
}

/// Errors have a message, fit for a terminal.
pub fn check(error: &Error) {
    let message = error.to_string();
    assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
}
