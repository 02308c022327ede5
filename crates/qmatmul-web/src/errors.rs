//! Errors for JavaScript.

use qmatmul::Error;
use wasm_bindgen::JsValue;

/// An error whose `name` says what the page can do about it.
pub fn js(error: Error) -> JsValue {
    let name = match error {
        Error::NoAdapter(_) => "NoAdapter",
        Error::DeviceLost(_) => "DeviceLost",
        Error::OutOfMemory { .. } => "OutOfMemory",
        Error::Io { .. } | Error::Malformed { .. } | Error::UnsupportedFormat { .. } => "File",
        _ => "Error",
    };
    let value = js_sys::Error::new(&qmatmul::error::plain(&error.to_string()).to_string());
    value.set_name(name);
    value.into()
}

/// What JavaScript threw, in words.
pub fn words(thrown: &JsValue) -> String {
    let error = wasm_bindgen::JsCast::dyn_ref::<js_sys::Error>(thrown);
    error.map_or_else(|| format!("{thrown:?}"), |error| error.message().into())
}
