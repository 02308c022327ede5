//! Everything that names wgpu: the device, uploads, pipelines, recording, reading back, timing.

mod device;
mod errors;
mod pipelines;
mod probe;
mod record;
mod runtime;
mod time;
mod transfer;
mod tuning;
mod weights;

pub use device::{AdapterSummary, Options, Select, adapters};
pub use runtime::Runtime;
pub(crate) use runtime::{CANARY, Task};
pub use time::Timing;
pub use tuning::{Tuned, Tuning, TuningCache};
pub use weights::{Upload, Weights};
